"""Wrong and unusual submissions of assignment 5: training, diagnosing, improving.

WRONG: (what is wrong, answers by question, parts that lose their marks, words of the feedback).
UNUSUAL: correct, and written quite differently.
"""

RATE = """
def rate(step, steps, peak, warm):
    start, low, kind = (PARAMETERS[k] for k in ("start", "floor", "fall"))
    if step < warm:
        return {rise}
    left = {left}
    t = {time}
    way = {{
        "line": low + (1 - low) * (1 - t),
        "cosine": low + (1 - low) * (1 + math.cos(math.pi * t)) / 2,
        "exponential": low**t,
    }}
    return peak * way[{kind}]
"""


def rate(
    rise="peak * (start + (1 - start) * step / warm)",
    left="steps - 1 - warm",
    time="(step - warm) / left if left > 0 else 0.0",
    kind="kind",
):
    return {"q1": RATE.format(rise=rise, left=left, time=time, kind=kind)}


BOOK = """
def rate(step, steps, peak, warm):
    if step < warm:
        return peak * (step + 1) / (warm + 1)
    t = (step - warm) / max(1, steps - warm)
    return peak * (1 + math.cos(math.pi * t)) / 2
"""

EARLY_DIVISION = """
def rate(step, steps, peak, warm):
    start, low, kind = (PARAMETERS[k] for k in ("start", "floor", "fall"))
    up = peak * (start + (1 - start) * step / warm)
    t = (step - warm) / (steps - 1 - warm)
    if step < warm:
        return up
    if kind == "exponential":
        return peak * low**t
    way = 1 - t if kind == "line" else (1 + math.cos(math.pi * t)) / 2
    return peak * (low + (1 - low) * way)
"""

SPLIT = """
def split(labels, seed):
    {draw}
    training, held = [], []
    for label in sorted(set(labels)):
        places = [i for i, y in enumerate(labels) if y == label]
        {shuffle}
        count = {count}
        held += places[:count]
        training += places[count:]
    return {give}
"""


def split(
    draw="draw = random.Random(seed)",
    shuffle="draw.shuffle(places)",
    count="round(PARAMETERS['held_out'] * len(places))",
    give="training, held",
):
    return {"q2": SPLIT.format(draw=draw, shuffle=shuffle, count=count, give=give)}


NOT_STRATIFIED = """
def split(labels, seed):
    places = list(range(len(labels)))
    random.Random(seed).shuffle(places)
    count = round(PARAMETERS["held_out"] * len(places))
    return places[count:], places[:count]
"""

IN_PLACE = """
def split(labels, seed):
    draw = random.Random(seed)
    training, held = [], []
    for label in sorted(set(labels)):
        places = []
        for i in range(len(labels)):
            if labels[i] == label:
                places.append(i)
                labels[i] = None if False else -1 - label
        draw.shuffle(places)
        count = round(PARAMETERS["held_out"] * len(places))
        held, training = held + places[:count], training + places[count:]
    return training, held
"""

EVALUATE = """
def evaluate(net, batches):
    modes = {{m: m.training for m in net.modules()}}
    {enter}
    loss = right = total = count = 0
    with {no_grad}:
        for x, y in batches:
            logits = {forward}
            loss += {loss}
            right += {right}
            total += len(y)
            count += 1
    {leave}
    {empty}
    return {give}
"""


def evaluate(
    enter="net.eval()",
    no_grad="torch.no_grad()",
    forward="net(x)",
    loss="F.cross_entropy(logits, y, reduction='sum').item()",
    right="(logits.argmax(1) == y).sum().item()",
    leave="[m.train(mode) for m, mode in modes.items() if True]",
    empty="if not total: raise ValueError('no batch')",
    give="loss / total, right / total",
):
    # module.train() reaches the children too: from the root to the leaves it comes out right.
    parts = {"enter": enter, "no_grad": no_grad, "forward": forward, "loss": loss}
    parts |= {"right": right, "leave": leave, "empty": empty, "give": give}
    return {"q3": EVALUATE.format(**parts)}


SWITCHED_OFF = """
def evaluate(net, batches):
    modes = [m.training for m in net.modules()]
    net.eval()
    torch.set_grad_enabled(False)
    batches = list(batches)
    if not batches:
        raise ValueError("no batch")
    loss = sum(F.cross_entropy(net(x), y, reduction="sum").item() for x, y in batches)
    hits = sum((net(x).argmax(1) == y).sum().item() for x, y in batches)
    total = sum(len(y) for _, y in batches)
    for m, mode in zip(net.modules(), modes):
        m.training = mode
    return loss / total, hits / total
"""

TRAIN = """
def train_epoch(net, batches, optimizer, rate_of, step):
    {train}
    total, pictures, count = 0.0, 0, 0
    {before}
    for x, y in batches:
        for group in {groups}:
            group["lr"] = {rate}
        loss = {loss}
        {check}
        {steps}
        total += {add}
        pictures += len(y)
        count += 1
        step += 1
    return {give}
"""


def train(
    train="net.train()",
    before="pass",
    groups="optimizer.param_groups",
    rate="rate_of(step)",
    loss="F.cross_entropy(net(x), y, label_smoothing=PARAMETERS['smoothing'])",
    check="if not torch.isfinite(loss): raise FloatingPointError(f'step {step}')",
    steps="optimizer.zero_grad(); loss.backward(); optimizer.step()",
    add="loss.item() * len(y)",
    give="total / pictures, step",
):
    parts = {"train": train, "before": before, "groups": groups, "rate": rate, "loss": loss}
    parts |= {"check": check, "steps": steps, "add": add, "give": give}
    return {"q4": TRAIN.format(**parts)}


PLAIN = "F.cross_entropy(net(x), y)"

DIAGNOSE = """
def diagnose(run):
    rows, kept = run["history"], run["kept"] - 1
    train = [row["train_loss"] for row in rows]
    valid = [row["valid_loss"] for row in rows]
    again = [row["valid_loss_again"] for row in rows]
    best = [row["valid_accuracy"] for row in rows]
    test = [row["test_accuracy"] for row in rows]
    pairs = list(zip(train, train[1:]))
    rises = sum(b > a for a, b in pairs)
    if {diverged}:
        return "diverged"
    if {moved}:
        return "not in eval mode"
    if {chosen}:
        return "chosen on the test set"
    if {idle}:
        return "not learning"
    if {jagged}:
        return "learning rate too high"
    if {over}:
        return "overfitting"
    return "no fault found"
"""


def diagnose(
    diverged="not all(map(math.isfinite, train + valid))",
    moved="max(abs(a - b) for a, b in zip(valid, again)) > 0.001",
    chosen="None not in test and test[kept] == max(test) and best[kept] < max(best)",
    idle="min(train) >= 0.95 * math.log(run['classes'])",
    jagged="pairs and rises / len(pairs) >= PARAMETERS['rises']",
    over="train[-1] == min(train) and valid[-1] - min(valid) > PARAMETERS['overfit']",
):
    parts = {"diverged": diverged, "moved": moved, "chosen": chosen, "idle": idle}
    return {"q5": DIAGNOSE.format(**parts, jagged=jagged, over=over)}


OVERFITTING_FIRST = """
def diagnose(run):
    train = [row["train_loss"] for row in run["history"]]
    valid = [row["valid_loss"] for row in run["history"]]
    again = [row["valid_loss_again"] for row in run["history"]]
    best = [row["valid_accuracy"] for row in run["history"]]
    test, kept = [row["test_accuracy"] for row in run["history"]], run["kept"] - 1
    if not all(map(math.isfinite, train + valid)):
        return "diverged"
    if train[-1] == min(train) and valid[-1] - min(valid) > PARAMETERS["overfit"]:
        return "overfitting"
    rises = [b > a for a, b in zip(train, train[1:])]
    if rises and sum(rises) / len(rises) >= PARAMETERS["rises"]:
        return "learning rate too high"
    if min(train) >= 0.95 * math.log(run["classes"]):
        return "not learning"
    if None not in test and test[kept] == max(test) and best[kept] < max(best):
        return "chosen on the test set"
    if any(abs(a - b) > 0.001 for a, b in zip(valid, again)):
        return "not in eval mode"
    return "no fault found"
"""

WRONG = [
    # --- question 1
    ("the schedule of chapter 07", {"q1": BOOK}, {"warmup", "fall", "edges"}, "of chapter 07"),
    (
        "the warm-up starts at 0",
        rate(rise="peak * step / warm"),
        {"warmup", "edges"},
        "starts at 0",
    ),
    (
        "the warm-up is a step early",
        rate(rise="peak * (start + (1 - start) * (step + 1) / warm)"),
        {"warmup", "edges"},
        "one step early",
    ),
    ("no warm-up at all", rate(rise="peak"), {"warmup", "edges"}, "there is no warm-up"),
    ("the fall ends a step late", rate(left="steps - warm"), {"fall", "edges"}, "one step late"),
    (
        "t from the start of the run",
        rate(time="step / (steps - 1) if left > 0 else 0.0"),
        {"fall"},
        "it is 0 at step warm",
    ),
    (
        "another fall than the drawn one",
        rate(kind="{'line': 'cosine', 'cosine': 'line', 'exponential': 'line'}[kind]"),
        {"fall"},
        "names another",
    ),
    ("division by zero at the borders", {"q1": EARLY_DIVISION}, {"edges"}, "warm = steps - 1"),
    (
        "the peak for ever",
        {"q1": "def rate(step, steps, peak, warm):\n    return peak"},
        {"warmup", "fall", "edges"},
        "stays at the peak",
    ),
    # --- question 2
    ("not stratified", {"q2": NOT_STRATIFIED}, {"stratified"}, "is the split stratified"),
    (
        "the split leaks",
        split(give="list(range(len(labels))), held"),
        {"partition"},
        "a split that leaks",
    ),
    (
        "unseeded",
        split(draw="pass", shuffle="random.shuffle(places)"),
        {"seeded"},
        "does not begin from the seed",
    ),
    (
        "seeds the program's own random numbers",
        split(draw="random.seed(seed)", shuffle="random.shuffle(places)"),
        {"seeded"},
        "a generator of its own",
    ),
    ("always the first pictures", split(shuffle="pass"), {"seeded"}, "is to be drawn"),
    (
        "rounds down",
        split(count="int(PARAMETERS['held_out'] * len(places))"),
        {"stratified"},
        "rounded down",
    ),
    (
        "gives the lists the wrong way round",
        split(give="held, training"),
        {"partition", "stratified"},
        "are the two lists swapped",
    ),
    ("changes the caller's labels", {"q2": IN_PLACE}, {"partition"}, "list is changed"),
    # --- question 3
    (
        "mean of batch means",
        evaluate(loss="F.cross_entropy(logits, y).item()", give="loss / count, right / total"),
        {"numbers"},
        "a mean of batch means",
    ),
    ("no net.eval()", evaluate(enter="pass"), {"numbers"}, "not in eval mode"),
    (
        "no no_grad",
        evaluate(no_grad="torch.enable_grad()"),
        {"no_graph"},
        "no_grad is missing",
    ),
    (
        "gradients switched off for good",
        {"q3": SWITCHED_OFF},
        {"no_graph"},
        "as a context",
    ),
    (
        "gives tensors",
        evaluate(loss="F.cross_entropy(logits, y, reduction='sum')"),
        {"no_graph"},
        "a tensor is not a plain number",
    ),
    (
        "the mode is not restored",
        evaluate(leave="pass"),
        {"mode", "frozen"},
        "is left in eval mode",
    ),
    (
        "one mode for all modules",
        evaluate(leave="net.train(modes[net])"),
        {"frozen"},
        "a frozen one too",
    ),
    ("divides by nothing", evaluate(empty="pass"), {"empty"}, "comes from the division"),
    (
        "softmax before cross-entropy",
        evaluate(forward="net(x).softmax(1)"),
        {"numbers"},
        "softmax before cross-entropy",
    ),
    (
        "percent",
        evaluate(give="loss / total, 100 * right / total"),
        {"numbers"},
        "the share is in percent",
    ),
    (
        "smoothing in the evaluation",
        evaluate(
            loss="F.cross_entropy(logits, y, reduction='sum', "
            "label_smoothing=PARAMETERS['smoothing']).item()"
        ),
        {"numbers"},
        "label smoothing is for training",
    ),
    # --- question 4
    (
        "zero_grad forgotten",
        train(steps="loss.backward(); optimizer.step()"),
        {"weights"},
        "zero_grad is missing",
    ),
    (
        "zero_grad between backward and step",
        train(steps="loss.backward(); optimizer.zero_grad(); optimizer.step()"),
        {"weights"},
        "the weights do not move",
    ),
    (
        "step before backward",
        train(steps="optimizer.zero_grad(); optimizer.step(); loss.backward()"),
        {"weights"},
        "after backward",
    ),
    ("learns in eval mode", train(train="pass"), {"weights", "report"}, "not in train mode"),
    ("no smoothing", train(loss=PLAIN), {"weights", "report"}, "the loss is not smoothed"),
    (
        "accumulates the loss tensor",
        train(add="loss * len(y)"),
        {"report"},
        "keeps its graph",
    ),
    (
        "keeps all graphs until the end",
        train(add="loss * len(y)", give="(total / pictures).item(), step"),
        {"report"},
        "the sum of the losses keeps its graph",
    ),
    (
        "mean of the batch losses",
        train(add="loss.item()", give="total / count, step"),
        {"report"},
        "a mean of batch means",
    ),
    (
        "only the first group",
        train(groups="optimizer.param_groups[:1]"),
        {"rates"},
        "first parameter",
    ),
    ("steps from 0 in each epoch", train(rate="rate_of(count)"), {"rates"}, "count from 0"),
    ("the rate is a step late", train(rate="rate_of(step - 1)"), {"rates"}, "one step late"),
    ("no stop at NaN", train(check="pass"), {"stops"}, "the weights are poisoned"),
    (
        "stops too late",
        train(
            check="pass",
            add="loss.item() * len(y)\n"
            "        if not torch.isfinite(loss): raise FloatingPointError(step)",
        ),
        {"stops"},
        "asked too late",
    ),
    (
        "passes over NaN",
        train(check="if not torch.isfinite(loss): continue", give="total / max(1, pictures), step"),
        {"stops"},
        "passed over in silence",
    ),
    # --- question 5
    (
        "NaN is compared with a limit",
        diagnose(diverged="max(train + valid) > 100"),
        {"broken_runs"},
        "one loss in it is not finite",
    ),
    (
        "only the training loss can be NaN",
        diagnose(diverged="not all(map(math.isfinite, train))"),
        {"broken_runs"},
        "the validation loss can be NaN too",
    ),
    (
        "ten classes for ever",
        diagnose(idle="min(train) >= 0.95 * math.log(10)"),
        {"broken_runs"},
        "number of classes",
    ),
    (
        "a run of one epoch",
        diagnose(jagged="rises / len(pairs) >= PARAMETERS['rises']"),
        {"broken_runs"},
        "a run of one epoch",
    ),
    ("any rise", diagnose(jagged="rises > 0"), {"curves"}, "a single rise is no fault"),
    (
        "the gap for overfitting",
        diagnose(over="valid[-1] - train[-1] > PARAMETERS['overfit']"),
        {"curves"},
        "against the lowest validation loss",
    ),
    (
        "overfitting without a look at training",
        diagnose(over="valid[-1] - min(valid) > PARAMETERS['overfit']"),
        {"curves"},
        "a training loss that is at its lowest",
    ),
    (
        "eval mode in the last epoch only",
        diagnose(moved="abs(valid[-1] - again[-1]) > 0.001"),
        {"evaluation"},
        "look",
    ),
    (
        "any best test epoch",
        diagnose(chosen="None not in test and test[kept] == max(test)"),
        {"evaluation"},
        "is no fault",
    ),
    (
        "the rules in another order",
        {"q5": OVERFITTING_FIRST},
        {"broken_runs", "curves", "evaluation"},
        "another order",
    ),
    (
        "always the same word",
        {"q5": "def diagnose(run):\n    return 'overfitting'"},
        {"broken_runs", "curves", "evaluation"},
        "says 'overfitting'",
    ),
    (
        "nothing answered",
        {f"q{k}": "pass" for k in range(1, 6)},
        {
            *("warmup", "fall", "edges", "partition", "stratified", "seeded"),
            *("numbers", "no_graph", "mode", "frozen", "empty"),
            *("weights", "rates", "report", "stops"),
            *("broken_runs", "curves", "evaluation"),
        },
        "there is no rate",
    ),
]

UNUSUAL = [
    (
        "the schedule as a table, made once for each run",
        {
            "q1": """
from functools import lru_cache


@lru_cache
def table(steps, warm):
    shares = torch.linspace(PARAMETERS["start"], 1, warm + 1, dtype=torch.float64)[:-1]
    t = torch.linspace(0, 1, max(1, steps - warm), dtype=torch.float64)
    low, kind = PARAMETERS["floor"], PARAMETERS["fall"]
    if kind == "line":
        fall = torch.lerp(torch.ones_like(t), torch.full_like(t, low), t)
    elif kind == "cosine":
        fall = (1 + low) / 2 + (1 - low) / 2 * torch.cos(math.pi * t)
    else:
        fall = torch.exp(t * math.log(low))
    return torch.cat([shares, fall]).tolist()


def rate(step, steps, peak, warm):
    return peak * table(steps, warm)[step]
"""
        },
    ),
    (
        "the split in torch, with tensors as lists",
        {
            "q2": """
def split(labels, seed):
    y = torch.tensor(labels)
    generator = torch.Generator().manual_seed(seed)
    key = torch.rand(len(y), generator=generator)
    held = torch.zeros(len(y), dtype=torch.bool)
    for c in y.unique():
        mine = (y == c).nonzero().flatten()
        mine = mine[key[mine].argsort()]
        held[mine[: math.floor(PARAMETERS["held_out"] * len(mine) + 0.5)]] = True
    return (~held).nonzero().flatten(), held.nonzero().flatten()
"""
        },
    ),
    (
        "evaluate with a context of its own, in float64, with inference_mode",
        {
            "q3": """
from contextlib import contextmanager


@contextmanager
def quietly(net):
    training = {name for name, m in net.named_modules() if m.training}
    try:
        yield net.train(False)
    finally:
        for name, m in net.named_modules():
            m.training = name in training


def evaluate(net, batches):
    every, hits = [], []
    with quietly(net), torch.inference_mode():
        for x, y in batches:
            log_p = net(x).double().log_softmax(dim=1)
            every.extend((-log_p[torch.arange(len(y)), y]).tolist())
            hits.extend(log_p.argmax(1).eq(y).tolist())
    if not every:
        raise ValueError("evaluate: batches is empty")
    return math.fsum(every) / len(every), sum(hits) / len(hits)
"""
        },
    ),
    (
        "the epoch with autograd.grad and set_to_none by hand, loss as detached tensors",
        {
            "q4": """
def smoothed(logits, y):
    log_p, s = logits.log_softmax(1), PARAMETERS["smoothing"]
    return ((s - 1) * log_p.gather(1, y[:, None])[:, 0] - s * log_p.mean(1)).mean()


def train_epoch(net, batches, optimizer, rate_of, step):
    net.train(mode=True)
    losses, sizes = [], []
    for k, (x, y) in enumerate(batches, start=step):
        optimizer.param_groups[0]["lr"] = rate_of(k)
        for group in optimizer.param_groups[1:]:
            group.update(lr=optimizer.param_groups[0]["lr"])
        loss = smoothed(net(x), y)
        if loss.isnan() or loss.isinf():
            raise FloatingPointError(f"loss {loss.item()} at step {k}")
        weights = [p for p in net.parameters() if p.requires_grad]
        for p, g in zip(weights, torch.autograd.grad(loss, weights)):
            p.grad = g
        optimizer.step()
        losses.append(loss.detach())
        sizes.append(len(y))
        step = k + 1
    sizes = torch.tensor(sizes, dtype=torch.float32)
    return (torch.stack(losses) @ sizes / sizes.sum()).item(), step
"""
        },
    ),
    (
        "zero_grad after the step, and before the first one",
        train(
            before="optimizer.zero_grad(set_to_none=False)",
            steps="loss.backward(); optimizer.step(); net.zero_grad()",
        ),
    ),
    (
        "the rules as a table of functions, in torch",
        {
            "q5": """
class Curve:
    def __init__(self, run):
        self.classes, self.kept = run["classes"], run["kept"] - 1
        for name in run["history"][0]:
            column = [row[name] for row in run["history"]]
            missing = any(value is None for value in column)
            value = None if missing else torch.tensor(column, dtype=torch.float64)
            setattr(self, name, value)


def share_of_rises(c):
    steps = c.train_loss.diff()
    return (steps > 0).double().mean().item() if len(steps) else 0.0


def by_the_test(c):
    if c.test_accuracy is None:
        return False
    wins = c.test_accuracy.argmax() == c.kept
    return bool(wins and c.valid_accuracy.argmax() != c.kept)


RULES = {
    "diverged": lambda c: not torch.stack([c.train_loss, c.valid_loss]).isfinite().all(),
    "not in eval mode": lambda c: (c.valid_loss - c.valid_loss_again).abs().max() > 1e-3,
    "chosen on the test set": by_the_test,
    "not learning": lambda c: not (c.train_loss < 0.95 * math.log(c.classes)).any(),
    "learning rate too high": lambda c: share_of_rises(c) >= PARAMETERS["rises"],
    "overfitting": lambda c: c.train_loss.argmin() == len(c.train_loss) - 1
    and c.valid_loss[-1] > c.valid_loss.min() + PARAMETERS["overfit"],
}


def diagnose(run):
    curve = Curve(run)
    return next((name for name, rule in RULES.items() if rule(curve)), "no fault found")
"""
        },
    ),
]

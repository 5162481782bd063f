"""Wrong answers to the exercises of chapter 12, and the words that each must be told."""


def paths(all_paths=512, left=12.5, longest=9, few=8.984) -> str:
    return (
        f"my_paths = {{'paths in ResNet-20': {all_paths}, "
        f"'left when three blocks are out (%)': {left}, "
        f"'longest path of ResNet-20': {longest}, "
        f"'at most 2 of 9 branches (%)': {few}}}"
    )


BRANCH = (
    "def scaled_block(block, x, scale):\n"
    "    out = block.bn2(block.conv2(block.relu(block.bn1(block.conv1(x)))))\n"
    "    side = x if block.downsample is None else block.downsample(x)\n"
)
FILTER = "def filter_normalised(d, w):\n    return {}"
ROWS = "{0}.flatten(1).norm(dim=1).view(-1, *[1] * ({0}.dim() - 1))"
HEAT = "def heat_map(h, g):\n    return {}"
NUDGE = (
    "def nudge(logits_of, pictures, y, eps):\n"
    "    pictures.requires_grad_()\n"
    "    loss = F.cross_entropy(logits_of(pictures), y)\n"
    "    (slope,) = torch.autograd.grad(loss, pictures)\n"
    "    return {}"
)

# (exercise, answer, words that the check must say)
WRONG = [
    (1, paths(all_paths=18), ["paths in ResNet-20: 18 is not right", "the choices multiply"]),
    (1, paths(all_paths=2**20), ["choices are made by blocks, not by layers"]),
    (1, paths(left=50.0), ["left when three blocks are out (%): 50.0", "this is one block out"]),
    (1, paths(left=87.5), ["this is the share that is cut"]),
    (1, paths(longest=20), ["longest path of ResNet-20: 20", "branches here, not layers"]),
    (1, paths(few=7.03), ["at most 2 of 9 branches (%)", "length 0 and 1 count too"]),
    (1, paths(few=46.0), ["give the share of all 512 paths"]),
    (1, paths(few="..."), ["at most 2 of 9 branches (%): not answered yet"]),
    (2, BRANCH + "    return scale * out + side * block.residual", ["not yet", "ReLU behind"]),
    (
        2,
        BRANCH + "    return block.relu(scale * (out + side * block.residual))",
        ["scale the branch, not the sum"],
    ),
    (
        2,
        BRANCH + "    return block.relu(out + scale * side * block.residual)",
        ["scale the branch, not the shortcut"],
    ),
    (2, BRANCH + "    return block.relu(scale * out + side)", ["ask block.residual"]),
    (
        2,
        BRANCH + "    return block.relu(scale * out + x * block.residual)",
        ["raises RuntimeError", "size"],
    ),
    (2, BRANCH + "    block.relu(scale * out + side)", ["returns None", "end with `return`"]),
    (3, FILTER.format("d * w.norm() / d.norm()"), ["do it filter by filter"]),
    (3, FILTER.format(f"d / {ROWS.format('d')}"), ["give it the length of w's"]),
    (3, FILTER.format(f"d * {ROWS.format('w')}"), ["divide by the length of d's own filter"]),
    (
        3,
        FILTER.format(f"d * {ROWS.format('d')} / {ROWS.format('w')}"),
        ["upside down"],
    ),
    (
        3,
        FILTER.format("d * w.flatten(1).norm(dim=1) / d.flatten(1).norm(dim=1)"),
        ["raises RuntimeError", "must match"],
    ),
    (4, HEAT.format("(g.mean((1, 2), keepdim=True) * h).sum(0)"), ["keep only what is positive"]),
    (4, HEAT.format("(g.mean((1, 2), True) * h).relu().sum(0)"), ["first add the channels"]),
    (4, HEAT.format("(g * h).sum(0).relu()"), ["take the mean of the slope"]),
    (4, HEAT.format("(g.sum((1, 2), True) * h).sum(0).relu()"), ["mean, not sum"]),
    (4, HEAT.format("(g.mean((1, 2), True) * h).mean(0).relu()"), ["do not average them"]),
    (4, HEAT.format("(g.mean(0) * h).sum(1).relu()"), ["shape", "not (4, 4)"]),
    (5, NUDGE.format("(pictures - eps * slope.sign()).clamp(0, 1).detach()"), ["walk *up* the"]),
    (5, NUDGE.format("(pictures + eps * slope).clamp(0, 1).detach()"), ["take its whole eps"]),
    (5, NUDGE.format("(pictures + eps * slope.sign()).detach()"), ["left the range 0 to 1"]),
    (
        5,
        NUDGE.format("(pictures + 8 / 255 * slope.sign()).clamp(0, 1).detach()"),
        ["changed by more than eps"],
    ),
    (
        5,
        "def nudge(logits_of, pictures, y, eps):\n"
        "    noise = torch.randn_like(pictures).sign()\n"
        "    return (pictures + eps * noise).clamp(0, 1)",
        ["half are fooled: 0 is not right", "walk *up* the"],
    ),
    (5, NUDGE.format("slope.sign()"), ["changed by more than eps"]),
]

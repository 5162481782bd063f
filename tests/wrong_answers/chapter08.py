"""Wrong answers to the exercises of chapter 08, and the words that each must be told."""


def indices(old=2, new=3, says=3, nine=2) -> str:
    return (
        f"indices = {{'ring, old net': {old}, 'ring, new folder': {new}, "
        f"'net says 2: new index': {says}, 'folder 9': {nine}}}"
    )


def keep(better: str, kept: str, start: str = "-1.0") -> str:
    return (
        "def keep_best(net, epochs):\n"
        f"    best, weights = {start}, None\n"
        "    for train_one in epochs:\n"
        "        accuracy = train_one()\n"
        f"        if {better}:\n"
        "            best = accuracy\n"
        f"            weights = {kept}\n"
        "    return weights\n"
    )


COPY = "{k: v.clone() for k, v in net.state_dict().items()}"
LUCK = "luck = {{'sd (points)': {}, 'pictures for one point': {}}}"
P = "(104 / 113 * 9 / 113)"


def rates(stem: bool = True, slower: str = "lr = lr / factor", twice: bool = False) -> str:
    return (
        "def my_groups(net, lr, factor):\n"
        "    found = [{'params': list(net.fc.parameters()), 'lr': lr}]\n"
        "    for name in reversed(net.stage_names):\n"
        f"        {slower}\n"
        "        params = list(getattr(net, name).parameters())\n"
        f"        if name == 'layer1' and {stem}:\n"
        "            params += [*net.conv1.parameters(), *net.bn1.parameters()]\n"
        "        found.append({'params': params, 'lr': lr})\n"
        f"    return found + (found[:1] if {twice} else [])\n"
    )


def detective(best=6, below=13, sds=9.4, believable=0) -> str:
    return (
        f"detective = {{'epochs with a new best': {best}, 'pictures below the last': {below}, "
        f"'standard deviations': {sds}, 'believable (1 or 0)': {believable}}}"
    )


# (exercise, answer, words that the check must say)
WRONG = [
    (1, indices(old=3), ["ring, old net: 3 is not right", "the first index is 0"]),
    (1, indices(new=2), ["ring, new folder: 2", "all others move by one"]),
    (1, indices(says=2), ["net says 2: new index: 2", "which name?"]),
    (1, indices(nine=1), ["folder 9: 1", "where does 10 stand?"]),
    (2, keep("accuracy > best", "net.state_dict()"), ["best in the middle", "a copy, or a view"]),
    (2, keep("accuracy >= best", COPY), ["two equal: 6 is not right", "of equal epochs the first"]),
    (
        2,
        keep("accuracy < best", COPY, start="1e9").replace("best = accuracy", "best = -1e9"),
        ["best in the middle: 6 is not right", "is yours the highest?"],
    ),
    (2, keep("accuracy > best", "accuracy"), ["return a dict of tensors"]),
    (3, LUCK.format(f"100 * {P} ** 0.5", 734), ["now divide by n, under the root"]),
    (3, LUCK.format(f"100 * {P} ** 0.5 / 113", 734), ["n belongs under the root"]),
    (3, LUCK.format(f"100 * {P} / 113", 734), ["you forgot the root"]),
    (3, LUCK.format(f"100 * ({P} / 113) ** 0.5", 733), ["733 is not right", "not yet one point"]),
    (3, LUCK.format(f"100 * ({P} / 113) ** 0.5", 288), ["falls with the root of n"]),
    (4, rates(stem=False), ["the stem: conv1 and bn1"]),
    (4, rates(slower="pass"), ["2 is not right", "only the head is right"]),
    (4, rates(twice=True), ["a weight stands in two groups"]),
    (4, rates(slower="lr = lr * factor"), ["only the head is right"]),
    (5, detective(best=7), ["epochs with a new best: 7", "only equals epoch 10"]),
    (5, detective(below=16), ["that is below the best epoch"]),
    (5, detective(below=11.5), ["in pictures, not in points"]),
    (5, detective(sds=14.1), ["divide the gap by one sd"]),
    (5, detective(believable=1), ["how many standard deviations is it?"]),
]

"""The experiments the book quotes: `runs/manifest.toml` is read, and its short forms expanded.

Each `[[entry]]` is a table of keys and has one of three forms. `[defaults]`, and what the members
of a form have in common, lie under the keys of each; `options` and `recipe` are merged key by key.
A recipe is the name of a table in `[recipes]`, or departs from one: `{ use = "book", lr = 0.01 }`.

* One experiment.
* A family, which has `members`: name -> keys. It gives `<family>-<member>`.
* A study, which has `changes`: name -> the fields that this change takes from `to`, for example
  `["recipe.schedule", "recipe.warmup"]`. From its two ends `from` and `to` it gives `<study>-none`
  (from), `<study>-all` (to), `<study>-add-<change>` (from, plus that one) and
  `<study>-without-<change>` (to, minus that one): one at a time in, one at a time out.
"""

import tomllib
from dataclasses import fields, replace
from pathlib import Path

from ..recipe import Recipe
from .experiments import Experiment, Run

NOT_KEYS = ("name", "study", "expect_null")  # of an entry; they come from where it stands


def read_manifest(path: str | Path) -> list[Experiment]:
    """All experiments of a manifest, in its order.

    Raises:
        ValueError: for any mistake in it, naming file, entry and key.
        OSError: if it cannot be read.
    """
    try:
        content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        _known(content, ("defaults", "recipes", "entry"))
        defaults, recipes = content.get("defaults", {}), content.get("recipes", {})
        found = []
        for number, table in enumerate(content.get("entry", []), 1):
            if not isinstance(table.get("name"), str):
                raise ValueError(f"[[entry]] number {number} has no name")
            expand = _family if "members" in table else _study if "changes" in table else _single
            found += expand(_merged(defaults, table), recipes)
        _all_different(found)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    except (AttributeError, KeyError, TypeError) as error:  # a table where a list should be, ...
        raise ValueError(f"{path}: not of the form that a manifest has ({error})") from None
    return found


def _single(table: dict, recipes: dict) -> list[Experiment]:
    return [_made(table["name"], {k: v for k, v in table.items() if k != "name"}, recipes)]


def _family(table: dict, recipes: dict) -> list[Experiment]:
    common = {k: v for k, v in table.items() if k not in ("name", "members")}
    members = _part(table, "members").items()
    return [_made(f"{table['name']}-{m}", _merged(common, keys), recipes) for m, keys in members]


def _study(table: dict, recipes: dict) -> list[Experiment]:
    name, changes, nulls = table["name"], _part(table, "changes"), table.get("expect_null", [])
    own = ("name", "from", "to", "changes", "expect_null")
    common = {k: v for k, v in table.items() if k not in own}
    ends = [
        replace(_made(f"{name}-{word}", _merged(common, _part(table, end)), recipes), study=name)
        for word, end in (("none", "from"), ("all", "to"))
    ]
    old, new = (Run(e, 0).configuration() for e in ends)
    differ = {k for k in {*old, *new} if old.get(k) != new.get(k)}
    listed = [path for paths in changes.values() for path in paths]
    if wrong := (differ ^ set(listed)) | {path for path in listed if listed.count(path) > 1}:
        raise ValueError(
            f"study {name!r}: changes: {', '.join(sorted(wrong))}: a field must stand in exactly "
            "one change if `from` and `to` differ in it, and in none if they do not"
        )
    if unknown := set(nulls) - set(changes):
        raise ValueError(f"study {name!r}: expect_null: no change {sorted(unknown)[0]!r}")
    found = list(ends)
    for change, paths in changes.items():
        for prefix, words, (base, other) in (
            ("add", f"{change} alone is added", ends),
            ("without", f"{change} alone is left out", ends[::-1]),
        ):
            shows = f"{table.get('shows', '')} Here {words}."
            keys = {"name": f"{name}-{prefix}-{change}", "expect_null": change in nulls}
            found.append(_taking(base, other, paths, shows=shows, **keys))
    return found


def _taking(base: Experiment, other: Experiment, paths: list[str], **keys) -> Experiment:
    """`base` with the fields at `paths` taken over from `other`."""
    options, recipe = dict(base.options), {}
    for path in paths:
        part, _, key = path.rpartition(".")
        if part == "recipe":
            recipe[key] = getattr(other.recipe, key)
        elif part == "options":
            options.pop(key, None)
            options |= {key: other.options[key]} if key in other.options else {}
        else:
            keys[key] = getattr(other, key)
    return replace(base, options=options, recipe=replace(base.recipe, **recipe), **keys)


def _made(name: str, keys: dict, recipes: dict) -> Experiment:
    try:
        _known(keys, [f.name for f in fields(Experiment) if f.name not in NOT_KEYS])
        for key in ("tier", "model", "shows"):
            if key not in keys:
                raise ValueError(f"the key {key!r} is missing")
        recipe = _recipe(_as_recipe(keys.get("recipe", {})), recipes)
        lists = {k: tuple(v) if isinstance(v, list) else v for k, v in keys.items()}
        return Experiment(**lists | {"name": name, "recipe": recipe})
    except (ValueError, TypeError) as error:
        raise ValueError(f"entry {name!r}: {error}") from None


def _part(table: dict, key: str) -> dict:
    if not isinstance(table.get(key), dict):
        raise ValueError(f"{table['name']!r}: the table {key!r} is missing")
    return table[key]


def _recipe(table: dict, recipes: dict) -> Recipe:
    chain = [table]
    while (use := chain[-1].get("use")) is not None:
        if use not in recipes:
            raise ValueError(f"recipe: there is no [recipes.{use}]")
        if len(chain) > len(recipes):
            raise ValueError(f"recipe: [recipes.{use}] uses itself")
        chain.append(recipes[use])
    values = {k: v for layer in reversed(chain) for k, v in layer.items() if k != "use"}
    kinds = {f.name: type(f.default) for f in fields(Recipe) if f.name != "seed"}
    _known(values, kinds, "recipe: ")
    for key, value in values.items():
        value = values[key] = tuple(value) if isinstance(value, list) else value
        if not (type(value) is kinds[key] or (kinds[key] is float and type(value) is int)):
            raise ValueError(f"recipe: {key} = {value!r}: must be of type {kinds[key].__name__}")
    try:
        return Recipe(**values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"recipe: {error}") from None


def _merged(base: dict, over: dict) -> dict:
    """`over` on top of `base`; options and recipe key by key, everything else as a whole."""
    found = base | over
    for key in ("options", "recipe"):
        if key in base and key in over:
            low, high = base[key], over[key]
            if key == "recipe":
                low, high = _as_recipe(low), _as_recipe(high)
                low = {} if "use" in high else low
            found[key] = low | high
    return found


def _as_recipe(value: str | dict) -> dict:
    return {"use": value} if isinstance(value, str) else value


def _known(table: dict, allowed, where: str = "") -> None:
    if unknown := [key for key in table if key not in allowed]:
        raise ValueError(f"{where}unknown key {unknown[0]!r}; known: {', '.join(allowed)}")


def _all_different(found: list[Experiment]) -> None:
    names, same = set(), {}
    for e in found:
        if e.name in names:
            raise ValueError(f"the name {e.name!r} stands twice")
        names.add(e.name)
        key = repr(sorted(Run(e, 0).configuration().items(), key=lambda item: item[0]))
        if (twin := same.setdefault(key, e)) is not e:
            raise ValueError(f"{twin.name!r} and {e.name!r} are the same run; keep one")

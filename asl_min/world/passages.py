"""The embedded world as a corpus: what the pages of its entities say, from the wordings in templates.yaml.

An entity's wording depends on its name alone, so a world always has the same passages.
"""

from pathlib import Path
from zlib import crc32

import yaml

from asl_min.world.world import Entity, World

TEMPLATES = yaml.safe_load((Path(__file__).parent / "templates.yaml").read_text())
SHOWN = 4
"""Neighbours, or countries of a currency, that a page lists at most."""


def choose(options: tuple[str, ...] | list[str], *key: str) -> str:
    """A choice that depends on the key only."""
    return options[crc32("|".join(key).encode()) % len(options)]


def passages(world: World) -> list[dict]:
    """The world as a Search-R1 corpus: rows `{"id", "contents": '"Title"\\ntext'}`, one passage an entity."""
    peers = _peers(world)
    texts = [text for entity in world.entities.values() for text in entity_texts(entity, world, peers[entity.name])]
    return [{"id": str(n), "contents": f'"{title}"\n{text}'} for n, (title, text) in enumerate(texts)]


def _peers(world: World) -> dict[str, Entity]:
    """For each entity the next one of its kind, whose facts its distractors tell."""
    return {
        entity.name: others[(place + 1) % len(others)]
        for others in world.kinds.values()
        for place, entity in enumerate(others)
    }


def entity_texts(entity: Entity, world: World, peer: Entity) -> list[tuple[str, str]]:
    """Title and text of each of an entity's passages; `peer`: the entity that distractors are about."""
    values = {"name": entity.name, "title": entity.title} | shown_values(entity, world)
    values |= {f"other_{key}": value for key, value in ({"name": peer.name} | shown_values(peer, world)).items()}
    found = []
    for number, part in enumerate(TEMPLATES[entity.kind]):
        sentences = [choose(part["texts"], "text", str(number), entity.name)]
        for relation, wordings in part.get("if", {}).items():
            wordings = wordings if relation in entity.facts else part.get("else", {}).get(relation)
            sentences += [choose(wordings, relation, entity.name)] if wordings else []
        if choose(("with", "without"), "distractor", str(number), entity.name) == "with":
            sentences.append(choose(part["distractors"], "which", str(number), entity.name))
        found.append((part["title"].format(**values), " ".join(sentences).format(**values)))
    return found


def shown_values(entity: Entity, world: World) -> dict[str, str]:
    """What the pages of an entity put for each relation, and for its lists."""
    values = {relation: shown(entity, relation, world) for relation in entity.facts}
    if entity.kind == "country":
        values["cities"] = join(shown_cities(entity, world))
        values["neighbours"] = join(entity.lists["neighbours"][:SHOWN], len(entity.lists["neighbours"]) - SHOWN)
    if entity.kind == "currency":
        values["users"] = join(entity.lists["users"][:SHOWN], len(entity.lists["users"]) - SHOWN)
    return values


def shown(entity: Entity, relation: str, world: World) -> str:
    """The value of a relation as the entity's pages spell it. A city's page calls its country by its name, or in one
    case in four by the short alias if there is one."""
    value = entity.facts[relation].answers[0]
    if relation == "country" and value in world.entities:
        alias = choose(("alias", "name", "name", "name"), "mention", entity.name) == "alias"
        return (alias and world.entities[value].short_alias) or value
    return value


def shown_cities(country: Entity, world: World) -> list[str]:
    """The cities that a country's page lists with their population, in an order that tells nothing."""
    order = sorted(country.lists["cities"], key=lambda city: crc32(f"{country.name}|{city}".encode()))
    return [f"{city} ({world.entities[city].facts['population'].answers[0]})" for city in order]


def join(names: tuple[str, ...] | list[str], others: int = 0) -> str:
    if not names:
        return "no country"
    if others > 0:
        return f"{', '.join(names)} and others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"

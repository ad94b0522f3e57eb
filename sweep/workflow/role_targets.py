"""The roles of a graph (prompt, seed, denoise strength …): their target fields, found by following its edges.

The family's dialect names candidates by walking upstream in a `Wiring`; here they become targets to write.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sweep.errors import WorkflowError, did_you_mean
from sweep.role_table import CONTROL_ROLES, FOUND_ROLES
from sweep.workflow.dialect import IDENTITY, Encoding, NodeSchemas
from sweep.workflow.graph import Address, Edge, Graph
from sweep.workflow.wiring import Wiring

STACKED = frozenset({"lora", "lora_weight", *CONTROL_ROLES})
"""Roles of which the word without a number sets all there are: a list of LoRAs, one weight for each of them."""


@dataclass(frozen=True, slots=True)
class Target:
    """A field that a role sets: its address, the value's encoding, and the edges to cut so that it takes effect."""

    address: Address
    encode: Encoding = IDENTITY
    cut: tuple[Edge, ...] = ()

    def sets(self, role: str) -> str:
        """Describe this target of a role in a plan: its address and the formula of its value."""
        formula = self.encode.formula(role)
        said = str(self.address) if formula == role else f"{self.address} = {formula}"
        given = " and ".join(str(edge.source) for edge in self.cut)
        return f"{said} (instead of what {given} gives)" if given else said


@dataclass(frozen=True, slots=True)
class Roles:
    """The roles of one graph. All targets of a role are set together; an ambiguous role has several such groups,
    of which a person must choose one.
    """

    targets: Mapping[str, tuple[Target, ...]]
    ambiguous: Mapping[str, tuple[tuple[Target, ...], ...]]

    def __getitem__(self, role: str) -> tuple[Target, ...]:
        """Return the targets of a role. Raises WorkflowError where it is ambiguous or not there."""
        if role in self.ambiguous:
            raise WorkflowError(
                f"{role} could be any of {self.numbers(role)}.",
                hint=f"Set {role}_1, {role}_2, …, or say which is meant under roles: {role}.",
            )
        if role not in self.targets:
            hint = f"It has {', '.join(self.targets) or 'no roles'}."
            raise WorkflowError(f"The workflow has no {role}.{did_you_mean(role, self.targets)}", hint=hint)
        return self.targets[role]

    def groups(self, role: str) -> tuple[tuple[Target, ...], ...]:
        """Return the targets of a role wherever it occurs: one group, several where it is ambiguous, or none."""
        return self.ambiguous.get(role) or tuple(filter(None, (self.targets.get(role, ()),)))

    def one(self, role: str, number: int) -> tuple[Target, ...]:
        """Return the targets of one of several, counted from 1. Raises WorkflowError where there are fewer."""
        groups = self.groups(role)
        if number > len(groups):
            listed = self.numbers(role) if len(groups) > 1 else f"{'one' if groups else 'no'} {role}"
            raise WorkflowError(f"The workflow has no {role}_{number}; it has {listed}.")
        return groups[number - 1]

    def numbered(self, role: str) -> Iterator[tuple[str, tuple[Target, ...]]]:
        """Yield the role, or each of several by its number (`seed_2`), with its targets."""
        groups = self.groups(role)
        for number, group in enumerate(groups, start=1):
            yield (role if len(groups) == 1 else f"{role}_{number}"), group

    def numbers(self, role: str) -> str:
        """List the groups of a role by number, as in `seed_1 (noise.seed), seed_2 (noise_2.seed)`."""
        groups = ((name, " + ".join(str(each.address) for each in group)) for name, group in self.numbered(role))
        return ", ".join(f"{name} ({addresses})" for name, addresses in groups)

    def __contains__(self, role: object) -> bool:
        return role in self.targets

    def set_chosen(self, graph: Graph, schemas: NodeSchemas, chosen: Mapping[str, Sequence[Address]]) -> Roles:
        """Return the roles with those of `chosen` set by a person: each sets exactly these addresses.

        Raises WorkflowError for a role nobody knows or an address that is not in the graph.
        """
        settled: dict[str, tuple[Target, ...]] = {}
        for role, addresses in chosen.items():
            if role not in FOUND_ROLES:
                hint = f"Roles: {', '.join(FOUND_ROLES)}."
                raise WorkflowError(f"There is no role {role!r}.{did_you_mean(role, FOUND_ROLES)}", hint=hint)
            settled[role] = tuple(find_field_target(graph, schemas, address, role) for address in addresses)
        left = {role: groups for role, groups in self.ambiguous.items() if role not in settled}
        return Roles({**self.targets, **settled}, left)


def find_roles(graph: Graph, schemas: NodeSchemas) -> Roles:
    """Return all roles of the graph, whatever family of models it is for and whoever drew it."""
    wiring = Wiring(graph, schemas)
    candidates = {
        role: [{each: IDENTITY} if isinstance(each, Address) else each for each in found]
        for role, found in schemas.dialect.find_candidates(graph, schemas).items()
    }
    positive = {address for candidate in candidates["prompt"] for address in candidate}
    negative = candidates["negative_prompt"]  # a text may feed both sides: then it is no negative prompt
    candidates["negative_prompt"] = [each for each in negative if positive.isdisjoint(each)]
    groups = _settle_candidates(wiring, candidates)
    images = {target.address for group in groups["image"] for target in group}
    groups["control_image"] = [g for g in groups["control_image"] if not images.issuperset(t.address for t in g)]
    return Roles(
        {role: found[0] for role, found in groups.items() if len(found) == 1},
        {role: tuple(found) for role, found in groups.items() if len(found) > 1},
    )


def find_field_target(graph: Graph, schemas: NodeSchemas, address: Address, role: str = "") -> Target:
    """Return the target for one field: its source where a node only holds its value, else itself with its edges cut.

    Raises WorkflowError where the graph has no such node, or its type no such field.
    """
    node = graph.nodes.get(address.node)
    if node is None:
        near = did_you_mean(address.node, graph.nodes)
        raise WorkflowError(f"{address}: the workflow has no node {address.node!r}.{near}")
    schema = schemas.get(node.type)
    if schema is not None and schema.field(address.field) is None:
        near = did_you_mean(address.field, schema.fields)
        raise WorkflowError(f"{address}: {node.type} has no field {address.field!r}.{near}")
    wiring = Wiring(graph, schemas)
    where, cut = wiring.settle(address)
    encode = schemas.dialect.encode_strength(graph, schemas, address) if role == "denoise_strength" else IDENTITY
    return Target(where, encode, cut)


def _settle_candidates(
    wiring: Wiring, candidates: Mapping[str, Sequence[Mapping[Address, Encoding]]]
) -> dict[str, list[tuple[Target, ...]]]:
    """Return each role's candidates as targets, equal ones once.

    Where one field holds a value for several roles (a square's side), each role sets its own field instead.
    """
    fields = {role: {address for candidate in found for address in candidate} for role, found in candidates.items()}
    settled = {address: wiring.settle(address) for addresses in fields.values() for address in addresses}
    holders: dict[Address, set[str]] = {}
    for role, addresses in fields.items():
        for address in addresses:
            holders.setdefault(settled[address][0], set()).add(role)
    shared = {a for a, roles in holders.items() if len(roles) > 1 and roles != {"image", "control_image"}}
    groups: dict[str, list[tuple[Target, ...]]] = {}
    for role, found in candidates.items():
        distinct: dict[frozenset[Address], tuple[Target, ...]] = {}
        for candidate in found:
            targets: dict[Address, Target] = {}
            for address, encode in candidate.items():
                where, cut = settled[address]
                if where in shared:
                    where, cut = address, wiring.list_edges_into(address)
                targets.setdefault(where, Target(where, encode, cut))
            distinct[frozenset(targets)] = tuple(targets.values())
        groups[role] = list(filter(None, distinct.values()))
    return groups

"""IAM's evaluation of identity policies, for what the modules' policies use.

Explicit denials win, then one statement that allows is enough; all conditions of a statement must hold.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html
"""

import fnmatch
import re


def allows(statements, action, resources, context=None):
    """Returns whether one call with all of these resources, each with its own context, is allowed.

    `resources`: {ARN: {condition key: value}}; `context`: condition keys of the request itself.
    """
    return all(decide(statements, action, arn, (context or {}) | own) for arn, own in resources.items())


def decide(statements, action, resource, context):
    context = {key.lower(): value for key, value in context.items()}
    fitting = [one for one in statements if fits(one, action, resource, context)]
    return bool(fitting) and all(one["Effect"] == "Allow" for one in fitting)


def fits(statement, action, resource, context):
    return (any(like(action.lower(), pattern.lower()) for pattern in statement["Action"])
            and any(like(resource, pattern) for pattern in statement["Resource"])
            and all(holds(operator, key.lower(), values, context)
                    for operator, keys in statement.get("Condition", {}).items() for key, values in keys.items()))


def like(value, pattern):
    """`*` and `?` only: IAM knows no character classes."""
    return re.fullmatch(fnmatch.translate(re.sub(r"\[", "[[]", pattern)), value) is not None


def holds(operator, key, wanted, context):
    wanted = [str(one).lower() if operator == "Bool" else str(one) for one in (wanted if isinstance(wanted, list) else [wanted])]
    present = key in context and context[key] not in ([], None)
    if operator == "Null":
        return wanted == ["false" if present else "true"]
    if operator.startswith("ForAllValues:"):
        # True without values: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html
        return all(matches(operator.split(":")[1], value, wanted) for value in (context[key] if present else []))
    if not present:
        return False
    assert isinstance(context[key], str), f"{key} has several values: {operator} does not fit it"
    return matches(operator, context[key], wanted)


def matches(operator, value, wanted):
    if operator in ("StringEquals", "Bool"):
        return value in wanted
    # ArnEquals behaves as ArnLike.
    assert operator in ("StringLike", "ArnLike", "ArnEquals"), f"{operator} is not implemented"
    return any(like(value, one) for one in wanted)

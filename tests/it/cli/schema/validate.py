"""Says of each document whether it is valid under a JSON Schema: `null`, or what is wrong."""

import json
import sys

from jsonschema import Draft202012Validator


def main() -> None:
    asked = json.load(sys.stdin)
    schema = asked["schema"]
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    verdicts = []
    for document in asked["documents"]:
        error = next(validator.iter_errors(document), None)
        verdicts.append(error and f"{error.json_path}: {error.message[:200]}")
    json.dump(verdicts, sys.stdout)


main()

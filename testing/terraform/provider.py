"""A provider that knows the AWS provider's schema and nothing else.

    provider.py WHEEL CACHE FILE.tf...

serves the schema of what the files use, prints what TF_REATTACH_PROVIDERS must hold, and stays until it is
stopped or its standard input is closed. With it `terraform validate` and `terraform test` (with `mock_provider`)
find wrong and missing arguments as they would with the real provider; nothing can be created.
"""

import json
import os
import re
import sys
from concurrent import futures
from pathlib import Path

import grpc

import protocol
import schema

USED = re.compile(r'^\s*(resource|data)\s+"(aws_\w+)"', re.M)


def used_in(files):
    """Returns the declarations of the files as (kind, name), and the provider itself."""
    found = {pair for file in files for pair in USED.findall(Path(file).read_text())}
    return sorted(found) + [("provider", "aws")]


def message(content):
    attributes = [
        protocol.new("Attribute", name=name, type=json.dumps(one["type"]).encode(),
                     required=one["required"], optional=one["optional"], computed=one["computed"])
        for name, one in sorted(content["attributes"].items())
    ]
    blocks = [
        protocol.new("NestedBlock", type_name=name, block=message(one["block"]), min_items=one["min"],
                     max_items=one["max"], nesting=protocol.NESTING[one["nesting"]])
        for name, one in sorted(content["blocks"].items())
    ]
    return protocol.new("Block", attributes=attributes, block_types=blocks)


def answer(schemas):
    """Returns the provider's description of itself."""
    of = lambda kind: {
        key.split()[1]: protocol.new("Schema", block=message(one))
        for key, one in schemas.items() if key.startswith(f"{kind} ")
    }
    return protocol.new("Schemas", provider=of("provider")["aws"], resource_schemas=of("resource"),
                        data_source_schemas=of("data"))


def serve(schemas):
    """The server, started, and its port."""
    # Terraform refuses a provider whose answer it cannot hold: the ordinary limit is 4 MiB.
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", 64 << 20)])
    described = answer(schemas)
    calls = {
        "GetSchema": ("Empty", lambda _: described),
        "PrepareProviderConfig": ("Config", lambda asked: protocol.new("Prepared", prepared_config=asked.config)),
        "ValidateResourceTypeConfig": ("Empty", lambda _: protocol.new("Diagnostics")),
        "ValidateDataSourceConfig": ("Empty", lambda _: protocol.new("Diagnostics")),
        "Configure": ("Empty", lambda _: protocol.new("Diagnostics")),
        "Stop": ("Empty", lambda _: protocol.new("Empty")),
    }
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            lambda asked, _context, call=call: call(asked),
            request_deserializer=protocol.CLASSES[asked].FromString,
            response_serializer=lambda said: said.SerializeToString(),
        )
        for name, (asked, call) in calls.items()
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("tfplugin5.Provider", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def main(wheel, cache, *files):
    server, port = serve(schema.load(wheel, used_in(files), cache))
    where = {"Protocol": "grpc", "ProtocolVersion": 5, "Pid": os.getpid(), "Test": True,
             "Addr": {"Network": "tcp", "String": f"127.0.0.1:{port}"}}
    print(json.dumps({"hashicorp/aws": where}), flush=True)
    sys.stdin.read()
    server.stop(None).wait()


if __name__ == "__main__":
    main(*sys.argv[1:])

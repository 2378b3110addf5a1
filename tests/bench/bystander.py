"""Another caller, in a process of its own: makes one small call after the other until its input ends."""

from __future__ import annotations

import json
import select
import sys
from dataclasses import astuple

from remora.v1 import attachment_service_pb2
from tests.bench.calling import Calls, call_for
from tests.bench.messages import upsert_message
from tests.running import Api

GET = "/remora.v1.AttachmentService/GetAttachment"


def _watch(address: str, key: str) -> Calls:
    api = Api(address, key)
    request = attachment_service_pb2.UpsertAttachmentRequest.FromString(upsert_message(0, "BENCH-4"))
    attachment_id = api.attachments.UpsertAttachment(request).attachment.id
    api.channel.close()
    get = attachment_service_pb2.GetAttachmentRequest(attachment_id=attachment_id).SerializeToString()
    print("ready", flush=True)
    return call_for(lambda _: not select.select([sys.stdin], [], [], 0)[0], address, GET, key, 1, lambda _: get)


if __name__ == "__main__":
    print(json.dumps(astuple(_watch(sys.argv[1], sys.argv[2]))))

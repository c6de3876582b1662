import asyncio
import json

import pytest


@pytest.mark.anyio
@pytest.mark.seconds(500)
async def test_probe(town, receiver):
    print("FOLDER", town.platform.folder)
    doc = (await town.ask("GET", "/openapi.json", "")).json
    open("/tmp/e2e_openapi.json", "w").write(json.dumps(doc))
    tid = "a" * 31 + "1"
    run = await town.run(town.north, {"traceparent": f"00-{tid}-{'b' * 16}-01"})
    print(run)
    await asyncio.sleep(4)
    for s in receiver.trace(tid):
        print(s)
    print(receiver.trace_ids)
    for k in ("n",):
        r = await town.ask("GET", f"/v1/runs/{run['id']}/explain", town.north.key)
        print(json.dumps(r.json)[:3000])
    import shutil

    shutil.copytree(town.platform.folder / "logs", "/tmp/e2e_logs", dirs_exist_ok=True)

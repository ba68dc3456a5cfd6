"""A proxy as it is often written: FastAPI passes on the chunks that httpx2 gets."""

import os

import httpx2
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from starlette.background import BackgroundTask

app = FastAPI()
upstream = httpx2.AsyncClient(
    base_url=os.environ["STREAMLAB_UPSTREAM"],
    limits=httpx2.Limits(max_connections=None),
    timeout=None,
    trust_env=False,
)


@app.get("/v1/files/{file_id}/content")
async def content(file_id: str) -> StreamingResponse:
    request = upstream.build_request("GET", f"/v1/files/{file_id}/content")
    answer = await upstream.send(request, stream=True)
    return StreamingResponse(
        answer.aiter_raw(),
        status_code=answer.status_code,
        headers={"Content-Length": answer.headers["Content-Length"]},
        media_type="application/octet-stream",
        background=BackgroundTask(answer.aclose),
    )

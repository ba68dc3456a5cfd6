"""A proxy with the bug of chapter 09: it fetches each file whole, and then answers."""

import os

import httpx2
from fastapi import FastAPI
from fastapi.responses import Response

app = FastAPI()
upstream = httpx2.AsyncClient(
    base_url=os.environ["STREAMLAB_UPSTREAM"],
    limits=httpx2.Limits(max_connections=None),
    timeout=None,
    trust_env=False,
)


@app.get("/v1/files/{file_id}/content")
async def content(file_id: str) -> Response:
    answer = await upstream.get(f"/v1/files/{file_id}/content")
    return Response(answer.content, answer.status_code, media_type="application/octet-stream")

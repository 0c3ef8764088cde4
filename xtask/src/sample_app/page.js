"use strict";
// Shows the WebSocket's clock and how it ended; uploads on request.
const byId = (id) => document.getElementById(id);

const scheme = location.protocol === "https:" ? "wss" : "ws";
const socket = new WebSocket(`${scheme}://${location.host}/ws`);
const state = (text) => {
  byId("ws-state").textContent = text;
  byId("ws-state").dataset.state = text;
};
socket.onopen = () => state("open");
socket.onmessage = (message) => {
  const { tick, unix_ms } = JSON.parse(message.data);
  byId("clock").textContent = new Date(unix_ms).toISOString().slice(11, 21);
  byId("clock").dataset.tick = tick;
};
socket.onclose = (closed) => {
  state("closed");
  byId("ws-close-code").textContent = closed.code;
  byId("ws-close-reason").textContent = closed.reason;
  byId("ws-close").hidden = false;
};

byId("upload").onclick = async () => {
  const result = byId("upload-result");
  result.textContent = "…";
  try {
    const answer = await fetch("/upload", { method: "POST", body: new Uint8Array(1024 * 1024) });
    result.textContent = answer.ok ? `${(await answer.json()).bytes} bytes arrived` : `status ${answer.status}`;
  } catch (error) {
    result.textContent = String(error);
  }
};

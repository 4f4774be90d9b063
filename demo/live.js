"use strict";
// Keeps a WebSocket open. When the login ends elsewhere it is closed with 4401, and the page says so at once.
(() => {
  const banner = document.getElementById("elsewhere");
  const status = document.getElementById("live");
  const word = status.querySelector("span");
  let leaving = false;

  function say(state, text) {
    status.dataset.state = state;
    word.textContent = text;
  }

  function listen(delay) {
    const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/live`);
    socket.onopen = () => {
      delay = 500;
      say("on", "Live");
    };
    socket.onclose = (event) => {
      if (leaving) return; // it is this page that logs out
      if (event.code === 4401) {
        say("out", "Signed out");
        banner.hidden = false;
        return;
      }
      say("off", "Reconnecting");
      setTimeout(() => listen(Math.min(delay * 2, 8000)), delay);
    };
  }

  addEventListener("submit", () => { leaving = true; });
  addEventListener("pagehide", () => { leaving = true; });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  listen(500);
})();

"use strict";
// Keeps a WebSocket open. When the login of this page has ended, the server closes it with 4401. From then on the page
// shows nothing of that login, and no button of it.
(() => {
  const inside = document.getElementById("inside");
  const ended = document.getElementById("ended");
  const status = document.getElementById("live");
  const word = status.querySelector("span");
  const address = new URL(`/live?login=${encodeURIComponent(inside.dataset.login)}`, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  let leaving = false;

  function say(state, text) {
    status.dataset.state = state;
    word.textContent = text;
  }

  function signedOut() {
    const focused = inside.contains(document.activeElement);
    inside.remove();
    ended.hidden = false;
    if (focused) ended.querySelector("a").focus();
    document.title = document.title.replace("Signed in", "Signed out");
    say("out", "Signed out");
  }

  function listen(delay) {
    const socket = new WebSocket(address);
    socket.onopen = () => {
      delay = 500;
      say("on", "Live");
    };
    socket.onclose = (event) => {
      // A page that logs out itself is about to be replaced, unless the user stops that.
      setTimeout(() => {
        if (event.code === 4401) return signedOut();
        say("off", "Reconnecting");
        setTimeout(() => listen(Math.min(delay * 2, 8000)), delay);
      }, leaving ? 2000 : 0);
    };
  }

  addEventListener("submit", () => { leaving = true; });
  addEventListener("pagehide", () => { leaving = true; });
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  listen(500);
})();

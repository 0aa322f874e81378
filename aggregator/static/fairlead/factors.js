// Passkeys and security keys: what the page says when the browser or the device refuses.
// The rest is allauth's own.
"use strict";
(function () {
  const isAddress = /^[\d.]+$|^\[/.test(location.hostname);

  function tell(text) {
    const place = document.getElementById("factor-failed");
    if (!place) return;
    place.querySelector("[data-reason]").textContent = text;
    place.classList.remove("d-none");
    place.focus();
  }

  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const why = event.detail.exception;
    if (isAddress) tell("Passkeys belong to a name, and this page was opened by a number. Open it by its name, such as localhost.");
    else if (!window.PublicKeyCredential) tell("This browser has no passkeys, or the page is not served over https.");
    else if (why && why.name === "InvalidStateError") tell("This device holds one of your passkeys already.");
    else tell("Nothing was received: it was cancelled, took too long, or this device holds no passkey for you.");
  });
})();

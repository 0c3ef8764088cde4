// Two comforts; every page works without them.
"use strict";

// Sign-in: the code stands in the fragment, which no server sees. It is taken out of the address at
// once and spent by POST.
const signIn = document.getElementById("sign-in");
if (signIn) {
  const spend = () => {
    const code = location.hash.slice(1);
    if (code) {
      history.replaceState(null, "", location.pathname);
      signIn.elements.code.value = code;
      signIn.submit();
    }
  };
  spend();
  // The link may be opened where this page is open already: then nothing is loaded again.
  addEventListener("hashchange", spend);
}

// Questions are asked in a dialog instead of on a page of their own.
const dialog = document.getElementById("confirm");
if (dialog) {
  const form = dialog.querySelector("form");
  const cancel = dialog.querySelector(".cancel");
  const part = (id) => document.getElementById(id);
  for (const ask of document.querySelectorAll("form.ask")) {
    ask.addEventListener("submit", (event) => {
      event.preventDefault();
      const words = ask.querySelector("button").dataset;
      form.action = ask.action;
      part("confirm-title").textContent = words.title;
      part("confirm-text").textContent = words.text;
      dialog.querySelector("button.confirm").textContent = words.button;
      cancel.href = location.href;
      dialog.close();
      dialog.showModal();
      cancel.focus();
    });
  }
  cancel.addEventListener("click", (event) => {
    if (dialog.matches(":modal")) {
      event.preventDefault();
      dialog.close();
    }
  });
  form.addEventListener("submit", () => {
    // One order is enough, however often somebody clicks.
    dialog.querySelector("button.confirm").disabled = true;
  });
}

// Whoever cannot see the page hears of the receipt first. Its address is not kept: a reload shows the
// list as it is.
const receipt = document.getElementById("receipt");
if (receipt) {
  receipt.focus();
  const address = new URL(location.href);
  address.searchParams.delete("receipt");
  history.replaceState(null, "", address);
}

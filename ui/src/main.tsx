// Where the page begins.
import { render } from "preact";
import { followTheme, giveAddressAbove, takeAddressFromAbove } from "./above.ts";
import { queryOfScope, scopeOf } from "./address.ts";
import { App } from "./app.tsx";

followTheme();
const scope = scopeOf(window.location.search, window.location.hash);
if (Object.keys(scope).length > 0) {
  // From here on the hash is the view's, and the query says what the tab is of: a reload keeps both.
  const view = window.location.hash.startsWith("#/") ? window.location.hash : "";
  window.history.replaceState(null, "", `${window.location.pathname}${queryOfScope(scope)}${view}`);
}
takeAddressFromAbove();
giveAddressAbove();
const place = document.getElementById("page");
if (place !== null) {
  place.replaceChildren();
  render(<App scope={scope} />, place);
}

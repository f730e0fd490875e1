// Airflow's page around this one, where there is one: its choice of light or dark, and its address.

/** The window around this one, or null where the page stands alone or the outer page is of another origin. */
export function above(): Window | null {
  if (window.parent === window) return null;
  try {
    return window.parent.document.body === null ? null : window.parent;
  } catch {
    return null;
  }
}

export type Theme = "light" | "dark";

/** Airflow writes `light` or `dark` into the class of its root element. */
export function themeOf(classes: DOMTokenList): Theme | null {
  if (classes.contains("dark")) return "dark";
  return classes.contains("light") ? "light" : null;
}

/** Follow Airflow's choice, else the system's; nothing is stored. */
export function followTheme(): void {
  const outer = above();
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const apply = (): void => {
    const theme = outer === null ? null : themeOf(outer.document.documentElement.classList);
    document.documentElement.dataset["theme"] = theme ?? (dark.matches ? "dark" : "light");
  };
  dark.addEventListener("change", apply);
  if (outer !== null) {
    new MutationObserver(apply).observe(outer.document.documentElement, { attributeFilter: ["class"] });
  }
  apply();
}

const OURS = "#/";

/** Where Airflow's address carries a view of this page, as after a reload or from a link somebody sent, take it. */
export function takeAddressFromAbove(): void {
  const outer = above();
  if (outer === null || window.location.hash.startsWith(OURS)) return;
  // Somebody went back to a view without a hash: then Airflow's address is the one that is behind.
  const [entry] = performance.getEntriesByType("navigation") as PerformanceNavigationTiming[];
  if (entry?.type === "back_forward") return;
  const hash = outer.location.hash;
  if (hash.startsWith(OURS)) window.history.replaceState(null, "", hash);
}

/** Let Airflow's address carry the view of this page, so that it can be reloaded and sent. */
export function giveAddressAbove(): void {
  const outer = above();
  if (outer === null) return;
  const hash = window.location.hash;
  if (outer.location.hash === hash || (outer.location.hash !== "" && !outer.location.hash.startsWith(OURS))) return;
  const { pathname, search } = outer.location;
  outer.history.replaceState(outer.history.state, "", `${pathname}${search}${hash}`);
}

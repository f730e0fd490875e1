// What the page hands to each of its views.
import type { Scope, View } from "./address.ts";
import type { Told } from "./actions.tsx";
import type { Go } from "./hooks.ts";
import type { Facets } from "./model.ts";

export interface Shell {
  scope: Scope;
  facets: Facets;
  /** Whether what is shown is kept fresh. */
  live: boolean;
  go: Go;
  /** The list that a reader came from, so that the way back leads to it. */
  list: View;
  /** Read out what a reader has caused, and cannot see at once. */
  announce: (text: string) => void;
  tell: (told: Told | null) => void;
  /** The name of a provider as people know it. */
  titleOf: (provider: unknown) => string;
}

export const titlesOf = (facets: Facets) => (provider: unknown): string => {
  const found = facets.providers.find((each) => each.name === provider);
  return found?.title || (typeof provider === "string" && provider !== "" ? provider : "the service");
};

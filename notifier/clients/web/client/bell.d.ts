import type { NotifierClient } from "./notifier.js";

export interface Labels {
  bell: string;
  unread: string;
  list: string;
  none: string;
  offline: string;
}

export class NotifierBell extends HTMLElement {
  limit: number;
  set client(client: NotifierClient | null);
  set labels(labels: Partial<Labels>);
  readonly isOpen: boolean;
  toggle(): void;
}

declare global {
  interface HTMLElementTagNameMap {
    "notifier-bell": NotifierBell;
  }
}

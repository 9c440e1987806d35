/** How often what happened, over all schedules: a simulation in which nothing dangerous happens proves nothing. */
export class Counters {
  readonly #counts = new Map<string, number>()

  count(what: string, by = 1): void {
    this.#counts.set(what, (this.#counts.get(what) ?? 0) + by)
  }

  get(what: string): number {
    return this.#counts.get(what) ?? 0
  }

  toObject(): Record<string, number> {
    return Object.fromEntries([...this.#counts].sort(([a], [b]) => (a < b ? -1 : 1)))
  }

  add(counts: Record<string, number>): void {
    for (const [what, by] of Object.entries(counts)) this.count(what, by)
  }
}

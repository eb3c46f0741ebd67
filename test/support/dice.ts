/** Chance that can be had again: mulberry32. */
export class Dice {
  constructor(private state: number) {}

  below(count: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) % count;
  }

  of<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }

  some<Item>(items: readonly Item[]): Item[] {
    return items.filter(() => this.chance(50));
  }

  chance(percent: number): boolean {
    return this.below(100) < percent;
  }
}

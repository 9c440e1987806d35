import { Fault } from '../image/fault.ts'

/** Small tests of JSON from a process that is not trusted. All throw Fault 'unavailable', reason 'examiner'. */

function strange(): Fault {
  return new Fault(
    'unavailable',
    'The examiner of disks answered what makes no sense. Try again; if Calotype was updated meanwhile, restart the server.',
    {
      subject: 'volume',
      reason: 'examiner',
    },
  )
}

export function object(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw strange()
  return value as Record<string, unknown>
}

export function list<Item>(value: unknown, countMax: number, parse: (one: unknown) => Item): Item[] {
  if (!Array.isArray(value) || value.length > countMax) throw strange()
  return value.map((one) => parse(one))
}

/** A whole number, not negative. */
export function count(value: unknown): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < 0) throw strange()
  return value
}

export function flag(value: unknown): boolean {
  if (typeof value !== 'boolean') throw strange()
  return value
}

/** Cut to `lengthMax`; without control characters and halves of pairs unless it is to stay 'raw', which is not cut either. */
export function text(value: unknown, lengthMax: number, how: 'clean' | 'raw' = 'clean'): string {
  if (typeof value !== 'string' || (how === 'raw' && value.length > lengthMax)) throw strange()
  if (how === 'raw') return value
  return value
    .slice(0, lengthMax)
    .toWellFormed()
    .replace(/[\p{Cc}\p{Zl}\p{Zp}\p{Bidi_Control}]/gu, '\ufffd')
}

export function oneOf<Word extends string>(value: unknown, words: readonly Word[]): Word {
  const word = words.find((one) => one === value)
  if (word === undefined) throw strange()
  return word
}

/** Names that go down from the root and nowhere else. */
export function path(value: unknown): string[] {
  return list(value, 4096, (one) => {
    const name = text(one, 1024, 'raw')
    if (name === '' || name === '.' || name === '..' || /[/\0]/.test(name)) throw strange()
    return name
  })
}

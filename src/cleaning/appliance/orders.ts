import assert from 'node:assert/strict'
import { isFault } from '../../image/fault.ts'
import type { Edit, Path } from '../../volume/contract.ts'
import { damaged, refuse } from '../../volume/refuse.ts'
import { VolumeFault } from '../volume-fault.ts'

/** What is to be done on one volume, by its number in the appliance. */
export interface Orders {
  readonly volume: number
  readonly edits: readonly Edit[]
}

const EDIT_COUNT_MAX = 100_000
const ORDERS_BYTES_MAX = 16 << 20
/** The kernel takes 4096 with the closing zero. What lies beneath a removed folder may be as deep as it likes. */
const PATH_BYTES_MAX = 4000
const NAME_BYTES_MAX = 255

/**
 * Orders as agent.sh reads them: fields, each ended by a zero byte. `volume` NUMBER starts a volume, `end` ends it all; an
 * edit is its kind, then what `write` (mode, content) and `link` (target) have of their own, then the count of its names and
 * the names. Refuses more than the guest should hold.
 */
export function encodeOrders(orders: readonly Orders[]): Buffer {
  let count = 0
  const pieces: Buffer[] = []
  let lengthBytes = 0
  const add = (...fields: readonly (string | Buffer)[]) => {
    for (const field of fields) {
      const bytes = typeof field === 'string' ? Buffer.from(field) : field
      assert(!bytes.includes(0), 'a field has no zero byte')
      pieces.push(bytes, Buffer.alloc(1))
      lengthBytes += bytes.length + 1
      if (lengthBytes > ORDERS_BYTES_MAX) throw tooMuch()
    }
  }
  for (const { volume, edits } of orders) {
    if (edits.length === 0) continue
    try {
      count += edits.length
      if (count > EDIT_COUNT_MAX) throw tooMuch()
      add('volume', String(volume))
      for (const edit of edits) add(...head(edit), String(edit.path.length), ...names(edit.path))
    } catch (error) {
      throw isFault(error) ? new VolumeFault(error, volume) : error
    }
  }
  add('end')
  return Buffer.concat(pieces)
}

function head(edit: Edit): (string | Buffer)[] {
  switch (edit.is) {
    case 'remove':
    case 'empty':
      return [edit.is]
    case 'write':
      assert(Number.isInteger(edit.mode) && edit.mode >= 0 && edit.mode <= 0o7777)
      return [edit.is, edit.mode.toString(8).padStart(4, '0'), edit.content]
    case 'link':
      return [edit.is, bytesOf(edit.target)]
    case 'blank':
    case 'registry':
      return assert.fail(`the appliance has no '${edit.is}'`)
    default:
      return edit satisfies never
  }
}

function names(path: Path): Buffer[] {
  assert(path.length > 0, 'a volume itself is not changed')
  const names = path.map(bytesOf)
  const isOdd = (name: Buffer) =>
    name.length === 0 || name.length > NAME_BYTES_MAX || name.includes(0) || name.includes(0x2f)
  if (names.some(isOdd) || path.includes('.') || path.includes('..'))
    throw damaged('a directory has a name that no file can have')
  if (names.reduce((sum, name) => sum + name.length + 1, 0) > PATH_BYTES_MAX)
    throw refuse(
      'unsupported',
      'A path that is to be cleaned is longer than the system takes. Shorten it inside the machine, then try again.',
    )
  return names
}

/** Bytes that were no UTF-8 come as U+DC80 to U+DCFF. */
function bytesOf(text: string): Buffer {
  if (text.isWellFormed()) return Buffer.from(text)
  const pieces = Array.from(text, (character) => {
    const code = character.codePointAt(0) ?? 0
    if (code < 0xd800 || code > 0xdfff) return Buffer.from(character)
    assert(code >= 0xdc80 && code <= 0xdcff, 'a name of ext4 has no other lone surrogates')
    return Buffer.of(code - 0xdc00)
  })
  return Buffer.concat(pieces)
}

function tooMuch() {
  return refuse(
    'too-large',
    'There is more to clean than one cleaning can hold. Remove some of it inside the machine, then try again.',
  )
}

import { Fault, isFault } from '../../image/fault.ts'
import {
  type DiskId,
  type ImageId,
  type MachineId,
  type ProjectId,
  parseId,
  parseProjectId,
  type SnapshotId,
} from '../../image/ids.ts'
import type { Region } from '../../image/region.ts'
import { bad, type ParameterTable, type Parsed, type Rule, readParameters, tooLarge } from './parameter.ts'
import { isAbsent } from './tree.ts'

/** Letters of ASCII and Chinese, digits and these signs. Source: uhost.md §3.3; Packer sends , : [ ] too. */
const NAME = /^[\p{Script=Han}A-Za-z0-9\-_.,:[\]]+$/u
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

/** `parse` sees the one text; a list or object in its place is refused. */
export function scalar<Value>(
  shape: string,
  parse: (text: string, field: string, scope: Parameters<Rule<unknown>['parse']>[2]) => Value,
): Rule<Value> {
  return {
    shape,
    parse: (branch, field, scope) => {
      if (branch.text === undefined || branch.children.size > 0) throw bad(field, 'Give one value, no list.')
      return parse(branch.text, field, scope)
    },
  }
}

export function text(lengthMax: number, pattern?: RegExp, words = 'text'): Rule<string> {
  return scalar(`${words}, at most ${lengthMax} characters`, (value, field) => {
    if ([...value].length > lengthMax) throw tooLarge(field, `Give at most ${lengthMax} characters.`)
    if (pattern && !pattern.test(value)) throw bad(field, `Give ${words}.`)
    return value
  })
}

/** A resource's name, or its business group. */
export function name(): Rule<string> {
  return text(63, NAME, 'letters (English, Chinese), digits and - _ . , : [ ]')
}

export function integer(min: number, max: number, step = 1): Rule<number> {
  const shape = `integer ${min} to ${max}${step === 1 ? '' : ` in steps of ${step}`}`
  return scalar(shape, (value, field) => {
    if (!/^-?\d{1,15}$/.test(value)) throw bad(field, `Give an ${shape}.`)
    const number = Number(value)
    if (number > max) throw tooLarge(field, `Give an ${shape}.`)
    if (number < min || number % step !== 0) throw bad(field, `Give an ${shape}.`)
    return number
  })
}

/** Clients write true, True and 1. */
export function flag(): Rule<boolean> {
  return scalar('true or false', (value, field) => {
    if (/^(true|1)$/i.test(value)) return true
    if (/^(false|0)$/i.test(value)) return false
    throw bad(field, 'Give true or false.')
  })
}

/** One of these words, in any case. */
export function choice<const Word extends string>(...words: readonly Word[]): Rule<Word> {
  return scalar(words.join(', '), (value, field) => {
    const word = words.find((candidate) => candidate.toLowerCase() === value.toLowerCase())
    if (word === undefined) throw bad(field, `Give one of ${words.join(', ')}.`)
    return word
  })
}

/** A value that has one use here: every other is refused with the reason. */
export function only<Value>(rule: Rule<Value>, value: Value, why: string): Rule<Value> {
  return {
    shape: `${rule.shape}; only ${value}`,
    parse: (branch, field, scope) => {
      const given = rule.parse(branch, field, scope)
      if (given !== value) throw bad(field, why)
      return given
    },
  }
}

/** An address to fetch from. The cloud's own clients send some with spaces in them. */
export function url(): Rule<string> {
  return scalar('http or https address, at most 4096 characters', (value, field) => {
    if (value.length > 4096) throw tooLarge(field, 'Give at most 4096 characters.')
    if (!/^https?:\/\/[^\p{Cc}]+$/iu.test(value))
      throw bad(field, 'Give an address with http:// or https://.')
    return value.replaceAll(' ', '%20')
  })
}

export function base64(bytesMax: number): Rule<Buffer> {
  return scalar(`base64 of at most ${bytesMax} bytes`, (value, field) => {
    if (!BASE64.test(value)) throw bad(field, 'Give it in base64.')
    const bytes = Buffer.from(value, 'base64')
    if (bytes.length > bytesMax) throw tooLarge(field, `Give at most ${bytesMax} bytes before base64.`)
    return bytes
  })
}

/** `Name.0`, `Name.1`, … with any indexes, in rising order; empty items are left out. */
export function list<Value extends {}>(
  rule: Rule<Value>,
  countMax: number,
  isUnique = false,
): Rule<readonly Value[]> {
  return {
    shape: `list of at most ${countMax}: ${rule.shape}`,
    ...(rule.members && { members: rule.members }),
    parse: (branch, field, scope) => {
      if (branch.text) throw bad(field, `Give a list: ${field}.0, ${field}.1, and so on.`)
      const items = [...branch.children].filter(([, item]) => !isAbsent(item))
      if (items.length > countMax) throw tooLarge(field, `Give at most ${countMax}.`)
      const seen = new Set<number | Value>()
      for (const [index] of items) {
        if (!/^\d{1,9}$/.test(index)) throw bad(field, `'${index.slice(0, 40)}' is no index of a list.`)
        if (seen.has(Number(index))) throw bad(field, `The index ${Number(index)} is there twice.`)
        seen.add(Number(index))
      }
      items.sort(([left], [right]) => Number(left) - Number(right))
      const values = items.map(([index, item]) => rule.parse(item, `${field}.${index}`, scope))
      if (isUnique && new Set(values).size < values.length) throw bad(field, 'Name each one once.')
      return values
    },
  }
}

export function object<Table extends ParameterTable>(members: Table): Rule<Parsed<Table>> {
  return {
    shape: 'object',
    members,
    parse: (branch, field, scope) => {
      if (branch.text) throw bad(field, `Give its parts: ${Object.keys(members).join(', ')}.`)
      return readParameters(members, branch, `${field}.`, scope)
    },
  }
}

export function region(): Rule<Region> {
  return scalar('region id', (value, field, scope) => named(field, () => scope.regions.get(value)))
}

/** A zone of the request's Region. */
export function zone(): Rule<string> {
  return scalar('zone of the Region', (value, field, scope) => {
    const home = named('Region', () => scope.regions.get(scope.root.children.get('Region')?.text ?? ''))
    if (home.zones.includes(value)) return value
    const message = `The region ${home.id} has no zone '${value.slice(0, 80)}', only ${home.zones.join(', ')}.`
    throw new Fault('absent', message, { subject: 'zone', field })
  })
}

export function projectId(): Rule<ProjectId> {
  return scalar('project id', (value, field) => named(field, () => parseProjectId(value)))
}

export function imageId(): Rule<ImageId> {
  return scalar('image id', (value, field) => named(field, () => parseId('image', value)))
}

export function machineId(): Rule<MachineId> {
  return scalar('host id', (value, field) => named(field, () => parseId('machine', value)))
}

export function diskId(): Rule<DiskId> {
  return scalar('disk id', (value, field) => named(field, () => parseId('disk', value)))
}

export function snapshotId(): Rule<SnapshotId> {
  return scalar('snapshot id', (value, field) => named(field, () => parseId('snapshot', value)))
}

/** Gives a fault that knows no parameter the one that was read. */
function named<Value>(field: string, read: () => Value): Value {
  try {
    return read()
  } catch (error) {
    if (!isFault(error)) throw error
    const { kind, message, subject, reason } = error
    throw new Fault(kind, message, { subject, field, ...(reason !== undefined && { reason }) })
  }
}

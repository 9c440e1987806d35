import { Fault } from '../../image/fault.ts'
import { type ImageId, type MachineId, parseId, type SnapshotId } from '../../image/ids.ts'
import { type Parameters, type Parsed, type Rule, readParameters } from './parameter.ts'
import { type ParameterNode, treeOfJson } from './tree.ts'

function refuse(name: string, takes: string, reason?: 'bad-form'): Fault {
  return new Fault(
    'invalid',
    `It takes ${takes}.`,
    reason === undefined ? { field: name } : { field: name, reason },
  )
}

/** A scalar: `parse` answers undefined for a text that breaks the rule. */
function scalar<Value>(
  takes: string,
  parse: (text: string) => Value | undefined,
  reason?: 'bad-form',
): Rule<Value> {
  return {
    takes,
    read(node, name) {
      if (node?.value === undefined || node.value === '') return undefined
      const value = parse(node.value)
      if (value === undefined) throw refuse(name, takes, reason)
      return value
    },
  }
}

/** Text of 1 to `lengthMax` characters without control characters. */
export function text(lengthMax = 128): Rule<string> {
  const pattern = new RegExp(`^\\P{Cc}{1,${lengthMax}}$`, 'u')
  return scalar(`text of 1 to ${lengthMax} characters`, (value) => (pattern.test(value) ? value : undefined))
}

/** Text under a rule of its own, which `takes` says in words; breaking it is `Invalid<Name>.Malformed`. */
export function shaped(takes: string, pattern: RegExp): Rule<string> {
  return scalar(takes, (value) => (pattern.test(value) ? value : undefined), 'bad-form')
}

/** Letters of any script may begin a name: the newer pages allow Chinese ones. Source: wuying.md §4.1.1. */
export const imageName = shaped(
  '2 to 128 characters: a letter, then letters, digits, colons, underscores and hyphens',
  /^\p{L}[\p{L}\p{N}:_-]{1,127}$/u,
)

export const description = shaped(
  '2 to 256 characters that do not begin with http:// or https://',
  /^(?!https?:\/\/)[^\p{Cc}]{2,256}$/iu,
)

/** Names that begin with `auto` are those of snapshots by the clock. Source: wuying.md §4.2.1. */
export const snapshotName = shaped(
  '2 to 127 characters: a letter, then letters, digits, underscores and hyphens, not beginning with auto',
  /^(?!auto)\p{L}[\p{L}\p{N}_-]{1,126}$/u,
)

export const snapshotDescription = shaped(
  '1 to 128 characters without control characters',
  /^[^\p{Cc}]{1,128}$/u,
)

export const desktopName = shaped(
  '1 to 64 characters: a letter, then letters, digits, colons, underscores, periods and hyphens',
  /^\p{L}[\p{L}\p{N}:_.-]{0,63}$/u,
)

/** A whole decimal number from `min` to `max`. */
export function integer(min: number, max: number): Rule<number> {
  return scalar(`a whole number from ${min} to ${max}`, (value) => {
    const number = /^-?\d{1,15}$/.test(value) ? Number(value) : Number.NaN
    return number >= min && number <= max ? number : undefined
  })
}

export const boolean: Rule<boolean> = scalar('true or false', (value) =>
  /^true$/i.test(value) ? true : /^false$/i.test(value) ? false : undefined,
)

export function oneOf<const Choice extends string>(...choices: readonly Choice[]): Rule<Choice> {
  return scalar(`one of ${choices.join(', ')}`, (value) => choices.find((choice) => choice === value))
}

/** As `oneOf`, for words that clients write in more than one way; the value is the word as given here. */
export function oneOfAnyCase<const Choice extends string>(...choices: readonly Choice[]): Rule<Choice> {
  return scalar(`one of ${choices.join(', ')}, in any case`, (value) =>
    choices.find((choice) => choice.toLowerCase() === value.toLowerCase()),
  )
}

/** Its form alone: whether there is such a region is asked of the application. */
export const regionId = shaped('a region id like cn-hangzhou', /^[a-z0-9-]{1,64}$/)

/** `yyyy-MM-ddTHH:mm:ssZ`, UTC. */
export const time: Rule<string> = scalar('a time like 2026-01-31T08:00:00Z', (value) =>
  /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/.test(value) && !Number.isNaN(Date.parse(value)) ? value : undefined,
)

/** The id of a thing that has to exist: one that nobody could have been given is Fault 'absent'. */
export const imageId: Rule<ImageId> = scalar('an image id', (value) => parseId('image', value))
export const machineId: Rule<MachineId> = scalar('a cloud computer id', (value) => parseId('machine', value))
export const snapshotId: Rule<SnapshotId> = scalar('a snapshot id', (value) => parseId('snapshot', value))

/** `Name.1`, `Name.2`, …; one value may also come under the bare name. Order is that of the numbers. */
export function list<Value>(item: Rule<Value>, lengthMax: number): Rule<readonly Value[]> {
  const takes = `1 to ${lengthMax} items as Name.1, Name.2, …: ${item.takes}`
  return {
    takes,
    read(node, name) {
      if (node === undefined) return undefined
      const items = numbered(node, name, lengthMax)
      if (node.value !== undefined && node.value !== '') {
        if (items.length > 0 || node.value.startsWith('['))
          throw new Fault('invalid', `Send items as ${name}.1, ${name}.2, ….`, { field: name })
        const only = item.read(node, name)
        return only === undefined ? undefined : [only]
      }
      if (items.length === 0) return undefined
      return items.map(([index, child]) => {
        const value = item.read(child, `${name}.${index}`)
        if (value === undefined) throw refuse(`${name}.${index}`, item.takes)
        return value
      })
    },
  }
}

/** `Name.1.Field`, `Name.2.Field`, … */
export function objects<P extends Parameters>(fields: P, lengthMax: number): Rule<readonly Parsed<P>[]> {
  return {
    takes: `1 to ${lengthMax} items as Name.1.Field`,
    fields: prefixed('.N.', fields),
    read(node, name) {
      if (node === undefined) return undefined
      if (node.value !== undefined && node.value !== '')
        throw new Fault('invalid', `Send items as ${name}.1.Field.`, { field: name })
      const items = numbered(node, name, lengthMax)
      if (items.length === 0) return undefined
      return items.map(([index, child]) => readParameters(fields, child, `${name}.${index}.`))
    },
  }
}

/** `Name.Field`: one object. */
export function object<P extends Parameters>(fields: P): Rule<Parsed<P>> {
  return {
    takes: 'an object as Name.Field',
    fields: prefixed('.', fields),
    read: (node, name) =>
      node === undefined || node.children.size === 0 ? undefined : readParameters(fields, node, `${name}.`),
  }
}

/** One parameter whose text is a JSON object. */
export function json<P extends Parameters>(fields: P): Rule<Parsed<P>> {
  return {
    takes: 'one JSON object as text',
    fields: prefixed('.', fields),
    read(node, name) {
      if (node?.value === undefined || node.value === '') return undefined
      return readParameters(fields, treeOfJson(node.value, name), `${name}.`)
    },
  }
}

/** A rule whose empty text is a value: `Tag.2.Value=`. */
export function maybeEmpty(rule: Rule<string>): Rule<string> {
  return {
    takes: `${rule.takes}, or an empty one`,
    read: (node, name) => (node?.value === '' ? '' : rule.read(node, name)),
  }
}

function prefixed(prefix: string, fields: Parameters): Parameters {
  return Object.fromEntries(Object.entries(fields).map(([name, field]) => [prefix + name, field]))
}

function numbered(node: ParameterNode, name: string, lengthMax: number): [number, ParameterNode][] {
  const items: [number, ParameterNode][] = []
  for (const [step, child] of node.children) {
    if (!/^[1-9]\d{0,5}$/.test(step))
      throw new Fault('invalid', `Number the items from 1: ${name}.1, ${name}.2, ….`, { field: name })
    items.push([Number(step), child])
  }
  if (items.length > lengthMax)
    throw new Fault('invalid', `At most ${lengthMax} items in one call.`, { field: name })
  return items.sort(([a], [b]) => a - b)
}

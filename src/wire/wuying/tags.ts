import { Fault } from '../../image/fault.ts'
import { optional, type Parsed, required } from './parameter.ts'
import { maybeEmpty, objects, shaped } from './rules.ts'

const FIELDS = {
  Key: required(
    shaped(
      '1 to 128 characters, not beginning with acs: or aliyun, without http:// or https://',
      /^(?!acs:|aliyun)(?!.*https?:\/\/)[^\p{Cc}]{1,128}$/iu,
    ),
  ),
  Value: optional(
    maybeEmpty(
      shaped(
        'at most 128 characters, not beginning with acs:, without http:// or https://',
        /^(?!acs:)(?!.*https?:\/\/)[^\p{Cc}]{1,128}$/iu,
      ),
    ),
  ),
} as const

/** `Tag.N.Key` and `Tag.N.Value`, at most 20 with different keys. Source: wuying.md §4.8.1. */
export const tags = objects(FIELDS, 20)

/** Throws Fault 'invalid' if two tags have one key: the second would silently win. */
export function refuseTwins(given: readonly Parsed<typeof FIELDS>[]): void {
  const keys = new Set(given.map(({ Key }) => Key))
  if (keys.size !== given.length)
    throw new Fault('invalid', 'Two tags have the same key. Give each key once.', { field: 'Tag' })
}

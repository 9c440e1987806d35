import { test } from 'node:test'
import { OPERATIONS as UHOST } from '../../src/wire/uhost/operations/index.ts'
import type { ParameterTable } from '../../src/wire/uhost/parameter.ts'
import { OPERATIONS as WUYING } from '../../src/wire/wuying/operations/index.ts'
import { ask, nativeRefuses, openScene, uhostRefuses, wuyingRefuses } from './refusals.ts'
import { HOME, nativeCalls, uhostCalls, wuyingCalls } from './valid-calls.ts'

test('names and texts that break the documented rules, of every operation', async (t) => {
  const { root, running, things, unchanged } = await openScene(t, async () => undefined)
  const long = (length: number) => 'a'.repeat(length)
  const odd = ['a\u0001b', 'a\nb', 'a\u0000b', 'a\u{1f600}b']
  const imageNames = ['a', long(129), '1ab', '-ab', '_ab', 'a b', 'http://ab', 'a/b', 'a.b', '<b>', ...odd]
  for (const ImageName of imageNames) {
    const bad = { RegionId: HOME, DesktopId: running, ImageName }
    await wuyingRefuses(root, 'CreateImage', bad, [400, 'InvalidImageName.Malformed'], /2 to 128 characters/)
  }
  const copy = wuyingCalls.CopyImage?.(things) ?? {}
  for (const DestinationImageName of imageNames) {
    const expected = [400, 'InvalidDestinationImageName.Malformed'] as const
    await wuyingRefuses(root, 'CopyImage', { ...copy, DestinationImageName }, expected, /2 to 128 characters/)
  }
  for (const Description of ['a', long(257), 'http://a', 'https://a', 'HTTP://a', 'a\u0000b', 'a\u0007b']) {
    const bad = { RegionId: HOME, DesktopId: running, Description }
    await wuyingRefuses(root, 'CreateImage', bad, [400, 'InvalidDescription.Malformed'], /2 to 256/)
    const expected = [400, 'InvalidDestinationDescription.Malformed'] as const
    await wuyingRefuses(root, 'CopyImage', { ...copy, DestinationDescription: Description }, expected)
  }
  const create = wuyingCalls.CreateDesktops?.(things) ?? {}
  for (const DesktopName of [long(65), '1a', '-a', 'a b', 'http://a', 'a/b', ...odd]) {
    const expected = [400, 'InvalidDesktopName.Malformed'] as const
    await wuyingRefuses(root, 'CreateDesktops', { ...create, DesktopName }, expected, /1 to 64 characters/)
  }
  for (const key of [long(129), 'acs:a', 'aliyun-a', 'http://a', 'ahttps://b', 'a\u0001b']) {
    const bad = { ...create, 'Tag.1.Key': key }
    await wuyingRefuses(root, 'CreateDesktops', bad, [400, 'InvalidTag.Key.Malformed'])
  }
  for (const value of [long(129), 'acs:a', 'http://a', 'a\u0001b']) {
    const bad = { ...create, 'Tag.1.Key': 'k', 'Tag.1.Value': value }
    await wuyingRefuses(root, 'CreateDesktops', bad, [400, 'InvalidTag.Value.Malformed'])
  }
  for (const Hostname of ['a', long(16), 'a_b', 'a.b', 'a b', ...odd]) {
    await wuyingRefuses(root, 'CreateDesktops', { ...create, Hostname }, [400, 'InvalidHostname.Malformed'])
  }
  // Every other text of every table: too long, and with a control character.
  for (const { name, parameters } of WUYING) {
    for (const [field, { rule }] of Object.entries(parameters)) {
      const most = /^text of 1 to (\d+) characters$/.exec(rule.takes)?.[1]
      if (most === undefined) continue
      for (const value of [long(Number(most) + 1), 'a\u0001b']) {
        const bad = { ...wuyingCalls[name]?.(things), [field]: value }
        await wuyingRefuses(root, name, bad, [400, `Invalid${field}`], /It takes text of 1 to/)
      }
    }
  }

  for (const { name, parameters } of UHOST) {
    for (const [field, shape] of textsOf(parameters)) {
      const all = uhostCalls[name]?.(things) ?? {}
      const most = Number(/at most (\d+) characters/.exec(shape)?.[1])
      const tooLong = { ...all, [field]: long(most + 1) }
      await uhostRefuses(
        root,
        name,
        tooLong,
        240,
        new RegExp(`^Params \\[${field.replaceAll('.', '\\.')}\\] too large`),
      )
      if (!shape.startsWith('letters')) continue
      for (const value of ['a b', 'http://a', 'a/b', '<b>', 'a\\b', ...odd]) {
        await uhostRefuses(
          root,
          name,
          { ...all, [field]: value },
          230,
          /Params \[.*\] not available: Give letters/,
        )
      }
    }
  }

  const blanks = ['', ' a', 'a ', 'a\u0001b', 'a\nb', 'a\u0000b', long(300)]
  for (const [route, field, bads] of [
    ['POST /v1/images/import', 'name', [...blanks, long(129)]],
    ['POST /v1/images/capture', 'name', [...blanks, long(129)]],
    ['POST /v1/images/:id/copy', 'name', [...blanks, long(129)]],
    ['POST /v1/images/:id/clean', 'name', [...blanks, long(129)]],
    ['POST /v1/images/import', 'description', ['a\u0001b', long(257), long(2000)]],
    ['POST /v1/images/capture', 'description', ['a\u0001b', long(257)]],
    ['POST /v1/images/:id/copy', 'description', ['a\u0001b', long(257)]],
    ['POST /v1/images/:id/clean', 'description', ['a\u0001b', long(257)]],
    ['POST /v1/images/capture', 'tag', ['a\u0001b', long(129)]],
    ['POST /v1/images/:id/copy', 'tag', ['a\u0001b', long(129)]],
    ['POST /v1/images/:id/clean', 'tag', ['a\u0001b', long(129)]],
    ['POST /v1/images/import', 'osName', ['a\u0001b', long(129)]],
    ['POST /v1/machines', 'name', blanks],
    ['POST /v1/machines', 'tag', ['a\u0001b', long(129)]],
    ['POST /v1/machines', 'typeName', ['a\u0001b', long(65)]],
    ['POST /v1/machines', 'labels', [[{ key: 'a\u0001b', value: '' }], [{ key: '', value: '' }], [1]]],
    ['POST /v1/projects', 'name', [...blanks, '-a', '.a', '<b>', 'a/b', ...odd]],
    ['POST /v1/users', 'name', [...blanks, '-a', 'a b', '<b>', 'a/b', 'é', ...odd]],
    ['POST /v1/attachments', 'user', [long(129), '']],
  ] as const) {
    const { path, body } = nativeCalls[route]?.(things) ?? { path: '' }
    for (const value of bads) {
      const answer = ask(root, route, { path, body: { ...body, [field]: value } })
      await nativeRefuses(answer, 400, 'invalid', /\btakes\b|\bhas\b|\bhave\b|\bmissing\b/)
    }
  }
  await unchanged()
})

/** The names and shapes of all scalar texts of a table, those in lists under their first index. */
function textsOf(table: ParameterTable): (readonly [string, string])[] {
  return Object.entries(table).flatMap(([name, { rule, effect }]) => {
    const item = /^list of at most \d+: (.*)$/.exec(rule.shape)?.[1]
    const path = name + (item === undefined ? '' : '.0')
    // What is refused is refused whatever it says.
    if (rule.members !== undefined || effect === 'refused') return []
    const shape = item ?? rule.shape
    return /at most \d+ characters/.test(shape) ? [[path, shape] as const] : []
  })
}

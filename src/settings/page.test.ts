import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parseSettings, SETTINGS } from '../settings.ts'

const parse = ({ yaml }: { readonly yaml?: string }) =>
  parseSettings({
    environment: {
      CALOTYPE_DATA: '/data',
      CALOTYPE_S3_ACCESS_KEY_ID: 'id',
      CALOTYPE_S3_SECRET_ACCESS_KEY: 'secret',
    },
    flags: {},
    ...(yaml === undefined ? {} : { file: { path: '/etc/calotype/settings.yaml', text: yaml } }),
  })

test('docs/settings.md: its table is the table of the code, its example the default regions', () => {
  const text = readFileSync(new URL('../../docs/settings.md', import.meta.url), 'utf8')
  const rows = text.split('\n').filter((line) => line.startsWith('| `'))
  const code = (name: string | undefined) => (name === undefined ? '-' : `\`${name}\``)
  assert.deepEqual(
    rows,
    SETTINGS.map(({ key, environment, flag, takes, default: fallback, meaning }) => {
      return `| ${[code(key), code(environment), code(flag), takes, fallback, meaning].join(' | ')} |`
    }),
  )
  const examples = [...text.matchAll(/```yaml\n(.*?)```/gs)].map((match) => parse({ yaml: match[1] ?? '' }))
  assert.equal(examples.length, 4)
  assert.deepEqual(examples[0], parse({}))
  assert.equal(examples[2]?.regions[1]?.objects.kind, 's3')
  assert.equal(examples[3]?.peers[0]?.projects[0], 'org-golden')
})

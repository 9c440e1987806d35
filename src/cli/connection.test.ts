import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { readServerKey, resolveConnection } from './connection.ts'

const KEY = { accessKeyId: 'AK1', accessKeySecret: 's1' }
const ENVIRONMENT = { CALOTYPE_ACCESS_KEY_ID: 'AKENV', CALOTYPE_ACCESS_KEY_SECRET: 'senv' }
let folder: string

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'calotype-connection-'))
  writeFileSync(join(folder, 'access-key.json'), JSON.stringify(KEY))
  writeFileSync(join(folder, 'endpoint'), 'http://127.0.0.1:1234\n')
  writeFileSync(join(folder, 'bad.json'), '{"accessKeyId": 1}')
  writeFileSync(join(folder, 'no.json'), 'nonsense')
})
after(() => rmSync(folder, { recursive: true }))

const resolved = (...given: Parameters<typeof resolveConnection>) => {
  const { endpoint, keyId, secret } = resolveConnection(...given)
  return [endpoint.origin, keyId, secret]
}

test('what is nearer to the command wins', () => {
  assert.deepEqual(resolved({}, ENVIRONMENT), ['http://127.0.0.1:8370', 'AKENV', 'senv'])
  const environment = {
    ...ENVIRONMENT,
    CALOTYPE_ENDPOINT: 'https://images.example:9000',
    CALOTYPE_DATA: folder,
  }
  assert.deepEqual(resolved({}, environment), ['https://images.example:9000', 'AKENV', 'senv'])
  assert.deepEqual(resolved({ data: folder }, environment), ['http://127.0.0.1:1234', 'AK1', 's1'])
  assert.deepEqual(resolved({ data: folder, endpoint: 'http://[::1]:5' }, environment), [
    'http://[::1]:5',
    'AK1',
    's1',
  ])
  assert.deepEqual(resolved({}, { CALOTYPE_DATA: folder }), ['http://127.0.0.1:1234', 'AK1', 's1'])
  const keyFile = join(folder, 'access-key.json')
  assert.deepEqual(resolved({ keyFile }, ENVIRONMENT), ['http://127.0.0.1:8370', 'AK1', 's1'])
  assert.deepEqual(resolved({}, { CALOTYPE_KEY_FILE: keyFile }), ['http://127.0.0.1:8370', 'AK1', 's1'])
})

test('a server that got its key from the environment has no key file', () => {
  const data = mkdtempSync(join(folder, 'given-'))
  writeFileSync(join(data, 'endpoint'), 'http://127.0.0.1:1234\n')
  assert.deepEqual(resolved({ data }, ENVIRONMENT), ['http://127.0.0.1:1234', 'AKENV', 'senv'])
  assert.match(readServerKey(data, ENVIRONMENT).source, /CALOTYPE_ACCESS_KEY_ID/)
  for (const environment of [{}, { CALOTYPE_ACCESS_KEY_ID: 'AKENV' }]) {
    assert.throws(() => resolveConnection({ data }, environment), /then set CALOTYPE_ACCESS_KEY_ID/)
  }
  writeFileSync(join(data, 'access-key.json'), JSON.stringify(KEY))
  assert.deepEqual(resolved({ data }, ENVIRONMENT), ['http://127.0.0.1:1234', 'AK1', 's1'])
  assert.equal(readServerKey(data, ENVIRONMENT).source, join(data, 'access-key.json'))
})

test('what is missing or ill-formed says what it takes', () => {
  const bad = (
    given: Parameters<typeof resolveConnection>[0],
    says: RegExp,
    exitCode = 2,
    environment = ENVIRONMENT,
  ) =>
    assert.throws(
      () => resolveConnection(given, environment),
      (error: Error & { exitCode?: number }) => {
        assert.match(error.message, says)
        assert.equal(error.exitCode, exitCode)
        return true
      },
    )
  for (const endpoint of ['here', 'ftp://x', 'http://x/path', 'http://user@x']) {
    bad({ endpoint }, /--endpoint takes http:\/\/HOST:PORT/)
  }
  bad({}, /No access key\. Set CALOTYPE_ACCESS_KEY_ID/, 2, {} as typeof ENVIRONMENT)
  bad({ keyFile: join(folder, 'none') }, /There is no key file/)
  bad({ keyFile: join(folder, 'bad.json') }, /takes \{"accessKeyId"/)
  bad({ keyFile: join(folder, 'no.json') }, /takes \{"accessKeyId"/)
  bad({ keyFile: folder }, /Cannot read .* \(EISDIR\)/)
  bad({ data: join(folder, 'elsewhere') }, /No server runs on .*calotype serve --data/, 3)
})

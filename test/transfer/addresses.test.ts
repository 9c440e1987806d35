import assert from 'node:assert/strict'
import { createServer } from 'node:net'
import { networkInterfaces } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { type TestContext, test } from 'node:test'
import { stopServer } from '../../demo/server.ts'
import { type LocalServer, startServer } from '../../src/intake/fetch.fixture.ts'
import type { ShownImage, ShownTask } from '../../src/wire/native/show.ts'
import { good, newSmallPlace, type Person, personOf, type SmallPlace } from '../e2e/small-place.ts'
import { HOME } from '../e2e/valid-calls.ts'
import { type Asked, askNative, askToImport, DOORS, listening, reasonOf } from './import-doors.ts'
import { startNameServer } from './name-server.ts'
import { newSecret, wordsIn, wordsInCatalog, wordsInFolder } from './secret-words.ts'

// Attack classes 14 and 15: no door of a server leads to what only the server can reach, and nothing that opens an address
// is told to anybody.

const WORDS = {
  query: newSecret('query'),
  user: newSecret('user'),
  password: newSecret('password'),
  keyId: newSecret('keyId'),
  key: newSecret('key'),
}
/** What the canary would say. */
const INSIDE = newSecret('inside')

/** Every way to write a host that is inside; most of them are 127.0.0.1, where the canary listens. */
const HOSTS = [
  ...['127.0.0.1', '127.1', '127.0.1', '2130706433', '0x7f000001', '0x7F.1', '017700000001', '0177.0.0.01'],
  ...['127.0.0.1.', '127.000.000.001', '%31%32%37.0.0.1', '１２７.０.０.１', '①②⑦.0.0.1', '127。0。0。1'],
  ...['127.255.255.254', '0', '0.0.0.0', '00000000', 'localhost', 'LocalHost', 'localhost.', 'a.localhost'],
  ...['ｌｏｃａｌｈｏｓｔ', '[::]', '[::1]', '[0:0:0:0:0:0:0:1]', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]'],
  ...['[0:0:0:0:0:ffff:7f00:0001]', '[::127.0.0.1]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]', '[fe80::1]'],
  ...['169.254.169.254', '2852039166', '0xa9fea9fe', '0251.0376.0251.0376', '[::ffff:a9fe:a9fe]'],
  ...['[fd00:ec2::254]', '100.100.100.200', '100.80.80.80', '168.63.129.16', '10.0.0.1', '0xa.1'],
  ...['172.16.0.1', '192.168.1', '100.64.0.1', '198.18.0.1', '224.0.0.1', '255.255.255.255'],
]

/** What is no plain address of a file. `PLACE`: host and port of the canary. */
const ODD = [
  `http://${WORDS.user}:${WORDS.password}@PLACE/x`,
  `http://${WORDS.user}@PLACE/x`,
  'http://example.com@PLACE/x',
  'http://example.com:80@PLACE/x',
  'http://PLACE@example.com/x',
  'http://example.com#@PLACE/x',
  'http://PLACE#@example.com/x',
  'http://PLACE\\@example.com/x',
  'http://example.com\\@PLACE/x',
  'http://example.com&@PLACE#@example.com/x',
  'http://exam\tple.com/x',
  'http:/PLACE/x',
  'http:PLACE/x',
  'http:///PLACE/x',
  '//PLACE/x',
  'PLACE/x',
  'http://[::1%25lo]/x',
  'http://127.0.0.1.1/x',
  'http://0x7f.0.0.0.1/x',
  'http://256.0.0.1/x',
  'http://a..b/x',
  'http://127.0.0.1:99999/x',
  'http://127.0.0.1:/\r\nHost: PLACE/x',
  'file:///etc/passwd',
  'FILE:///etc/passwd',
  'gopher://PLACE/_GET%20/',
  'ftp://PLACE/x',
  'dict://PLACE/x',
  'unix:///var/run/docker.sock',
  'data:text/plain,x',
  'blob:http://PLACE/x',
  'view-source:http://PLACE/x',
  's3://bucket/x',
]

/** The published form of an object path puts an endpoint where others have a port. */
const PUBLISHED = [
  'http://bucket:localhost/x',
  'http://bucket:a.localhost:PORT/x',
  'http://bucket:0x7f000001/x',
]

/** What a name server may say that leads inside. */
const NAMES: Readonly<Record<string, readonly string[]>> = {
  'loopback.example': ['127.0.0.1'],
  'several.example': ['127.0.0.1', '10.0.0.1', '::1'],
  'six.example': ['::1'],
  'mapped.example': ['::ffff:127.0.0.1'],
  'keys.example': ['169.254.169.254'],
  'unspecified.example': ['0.0.0.0'],
}

interface Fortress {
  readonly place: SmallPlace
  readonly person: Person
  /** All that the server said to the person. */
  readonly answers: string[]
  readonly canary: LocalServer
  /** Of loopback, where nobody listens. */
  readonly closedPort: number
  askedCount: number
}

async function newFortress(t: TestContext): Promise<Fortress> {
  const canary = await startServer((_, response) => response.end(INSIDE))
  t.after(() => canary.close())
  const names = await startNameServer(t, NAMES)
  const place = await newSmallPlace(t, {}, { wrapper: names.wrapper })
  const answers: string[] = []
  const person = listening(personOf(place), answers)
  return { place, person, answers, canary, closedPort: await closedPort(), askedCount: 0 }
}

async function closedPort(): Promise<number> {
  const server = createServer()
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const address = server.address()
  await new Promise((resolve) => server.close(resolve))
  return typeof address === 'object' ? (address?.port ?? 0) : 0
}

function assertRefused(asked: Asked, what: string): asserts asked is Extract<Asked, { is: 'refused' }> {
  assert.equal(asked.is, 'refused', what)
}

test('no door leads inside, and none tells what opens an address', async (t) => {
  const fortress = await newFortress(t)
  const { place, person, canary } = fortress

  await t.test('an address that is inside is refused at once, whatever it looks like', async () => {
    const own = Object.values(networkInterfaces())
      .flatMap((all) => all ?? [])
      .filter(({ address }) => !address.startsWith('fe80'))
      .map(({ address, family }) => (family === 'IPv6' ? `[${address}]` : address))
    const { host, port } = place.server.endpoint
    for (const door of DOORS) {
      const said = new Set<string>()
      const plain = [...HOSTS, ...own].map((one) => `http://${one}:${canary.port}`)
      const secure = HOSTS.map((one) => `https://${one}`)
      const itself = own.map((one) => `http://${one}:${port}`)
      for (const origin of [...plain, ...secure, ...itself, `http://${host}`]) {
        const asked = await askToImport(person, door, `${origin}/disk.raw?Signature=${WORDS.query}`)
        fortress.askedCount++
        assertRefused(asked, `${door}: ${origin}`)
        said.add(`${asked.code} ${asked.message}`)
      }
      // One answer for all: it says nothing of what is there, or whether anything is.
      assert.equal(said.size, 1, [...said].join('\n'))
      assert.match([...said].join(), /not a public one.*settings/s)
    }
  })

  await t.test('an open port and a closed one get the same words', async () => {
    for (const door of DOORS) {
      for (const host of ['127.0.0.1', 'localhost', '[::ffff:127.0.0.1]']) {
        const ask = (port: number) => askToImport(person, door, `http://${host}:${port}/x`)
        assert.deepEqual(await ask(canary.port), await ask(fortress.closedPort))
        fortress.askedCount += 2
      }
    }
  })

  await t.test('what only looks like an address is refused at once', async () => {
    const where = `127.0.0.1:${canary.port}`
    for (const door of DOORS) {
      for (const form of door === 'wuying' ? [...ODD, ...PUBLISHED] : ODD) {
        const url = form.replace('PLACE', where).replace('PORT', String(canary.port))
        const asked = await askToImport(person, door, url)
        assertRefused(asked, `${door}: ${url}`)
        for (const text of [where, 'example.com']) assert.ok(!asked.message.includes(text), asked.message)
      }
    }
  })

  await t.test('the endpoint of a bucket is an address like any other', async () => {
    const keys = { keyId: WORDS.keyId, secret: WORDS.key }
    const odd = [`http://${WORDS.user}:${WORDS.password}@s3.example.com`, 'file:///etc', 's3.example.com']
    const inside = HOSTS.map((host) => `http://${host}:${canary.port}`)
    for (const endpoint of [...inside, ...odd]) {
      const wish = { name: 'bucket', url: 's3://bucket/disk.raw', s3: { endpoint, ...keys } }
      assertRefused(await askNative(person, wish), endpoint)
    }
    // Keys go nowhere but to a bucket.
    const url = `http://127.0.0.1:${canary.port}/`
    assertRefused(await askNative(person, { name: 'keys', url, s3: keys }), 'keys')
  })

  await t.test('a name that leads inside is refused by its task, in the same words for every port', () =>
    assertNamesLeadNowhere(fortress),
  )

  assert.equal(canary.connectionCount(), 0)
  await assertNothingTold(fortress)
})

async function assertNamesLeadNowhere({ person, canary, closedPort }: Fortress): Promise<void> {
  const ports = [canary.port, closedPort]
  const begun = Object.keys(NAMES).flatMap((name, index) =>
    ports.map(async (port) => {
      const door = DOORS[index % DOORS.length] ?? 'native'
      return askToImport(person, door, `http://${name}:${port}/disk.raw?Signature=${WORDS.query}`)
    }),
  )
  const reasons = new Map<string, Set<string>>()
  for (const [index, asked] of (await Promise.all(begun)).entries()) {
    const name = Object.keys(NAMES)[Math.floor(index / ports.length)] ?? ''
    const said = reasons.get(name) ?? new Set()
    reasons.set(name, said.add(await reasonOf(person, asked)))
  }
  for (const [name, said] of reasons) {
    assert.equal(said.size, 1, `${name}: ${[...said].join('\n')}`)
    assert.doesNotMatch([...said].join(), /example|\d\.\d|::/)
  }
  assert.equal(new Set([...reasons.values()].flatMap((said) => [...said])).size, 1)
}

/** Not in answers, not in the log, not in a row, not in any file; and of what was refused at once there is no image. */
async function assertNothingTold({ place, person, answers, askedCount }: Fortress): Promise<void> {
  const { images } = await good<{ images: ShownImage[] }>(
    person.native('GET', '/v1/images', { query: { region: HOME, limit: '500' } }),
  )
  const { tasks } = await good<{ tasks: ShownTask[] }>(
    person.native('GET', '/v1/tasks', { query: { limit: '500' } }),
  )
  const nameCount = 2 * Object.keys(NAMES).length
  assert.deepEqual([images.length, tasks.length], [nameCount, nameCount])
  const words = [...Object.values(WORDS), INSIDE]
  await stopServer(place.server)
  assert.deepEqual(wordsIn(answers.join('\n'), words), [])
  assert.deepEqual(await wordsInFolder(place.data, words), [])
  assert.deepEqual(wordsInCatalog(place.data, words), [])
  // The same search finds what is told.
  assert.notDeepEqual(wordsInCatalog(place.data, ['loopback.example']), [])

  const database = new DatabaseSync(join(place.data, 'catalog.db'), { readOnly: true })
  const rows = database.prepare('SELECT resource, outcome FROM audit').all()
  database.close()
  assert.ok(rows.length >= askedCount, `${rows.length} records of ${askedCount} imports`)
  for (const { resource } of rows) assert.match(String(resource), /^[a-z:]+:cn-hangzhou:\d+:url\/\*$/)
  assert.deepEqual([...new Set(rows.map(({ outcome }) => outcome))].sort(), ['done', 'invalid request'])
}

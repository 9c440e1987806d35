import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Answer,
  assertNothingTold,
  type Depot,
  digestOf,
  importFrom,
  newDepot,
  newFile,
  requestsOf,
  SIGNED,
  WORDS,
} from './depot.ts'
import { serveFile } from './file-origin.ts'
import { askNative, askToImport, DOORS, imageOf, reasonOf } from './import-doors.ts'

// Where the one address that the settings allow may send a server on.

test('redirects through a real server', async (t) => {
  const depot = await newDepot(t)
  await t.test('what is allowed may send on to what is allowed', () => assertSentOn(depot))
  await t.test('and to nothing else, however it says so', () => assertNotSentOn(depot))
  await assertNothingTold(depot)
})

/** A redirect to where `location` says, of that kind. */
const sendOn =
  (status: number, location: string): Answer =>
  (_, response) =>
    response.writeHead(status, { Location: location }).end(WORDS.inside)

async function assertSentOn(depot: Depot): Promise<void> {
  const { paths, origin, person, secure, untrusted } = depot
  const file = newFile()
  const digest = await digestOf(depot, file.bytes)
  paths.set('/disk.raw', (request, response) => serveFile(request, response, file))
  for (const status of [301, 302, 303, 307, 308]) {
    paths.set(`/near/${status}`, sendOn(status, `/disk.raw?Signature=${WORDS.sentOn}`))
  }
  paths.set('/far', sendOn(302, `${secure}/near/307`))
  paths.set('/up', sendOn(302, `${secure}/disk.raw`))
  const urls = ['/near/301', '/near/302', '/near/303', '/near/307', '/near/308', '/far', '/up']
  const all = [...urls.map((path) => `${origin.origin}${path}`), `${secure}/disk.raw`]
  const made = all.map(async (url, index) => {
    const door = DOORS[index % DOORS.length] ?? 'native'
    const image = await imageOf(person, await askToImport(person, door, `${url}${SIGNED}`))
    assert.equal(image.digest, digest, url)
  })
  await Promise.all(made)
  // Whoever has no certificate that is good may be anybody.
  paths.set('/to-anybody', sendOn(302, `${untrusted}/disk.raw`))
  for (const url of [`${untrusted}/disk.raw`, `${origin.origin}/to-anybody`]) {
    assert.match(await reasonOf(person, await askNative(person, { name: 'anybody', url })), /certificate/)
  }
}

async function assertNotSentOn(depot: Depot): Promise<void> {
  const { paths, person, origin, canary, place, secure } = depot
  const there = `127.0.0.1:${canary.port}`
  const query = `Signature=${WORDS.sentOn}`
  const inside = [
    ...[301, 302, 303, 307, 308].map((status) => ({ status, location: `http://${there}/?${query}` })),
    ...[
      ...[
        `//${there}/`,
        `https://${there}/`,
        `http://localhost:${canary.port}/`,
        `http://0x7f.1:${canary.port}/`,
      ],
      ...[`http://2130706433:${canary.port}/`, `http://[::ffff:127.0.0.1]:${canary.port}/`],
      ...[
        `http://[::1]:${canary.port}/`,
        `http://0:${canary.port}/`,
        'http://169.254.169.254/latest/meta-data/',
      ],
      // Another port of the host that is allowed: ours, one where nobody listens, one of another protocol.
      ...[`${place.server.endpoint.origin}/v1/images`, 'http://127.0.0.1:1025/', 'http://127.0.0.1:22/'],
    ].map((location) => ({ status: 302, location })),
  ]
  const odd = [
    ...['file:///etc/passwd', `gopher://${there}/_GET`, `ftp://${there}/`, 's3://bucket/key', 'data:,x'],
    ...[`http://somebody:${WORDS.password}@127.0.0.1:${origin.port}/disk.raw`],
    ...[
      `http://127.0.0.1:${origin.port}\\@${there}/`,
      `http://${there}\\@127.0.0.1:${origin.port}/`,
      'http://',
    ],
  ].map((location) => ({ status: 302, location }))

  const refused = async (what: string, list: readonly { status: number; location: string }[]) => {
    const reasons = list.map(async ({ status, location }, index) => {
      const [on, twice] = [`/${what}/${index}`, `/${what}/twice/${index}`]
      paths.set(on, sendOn(status, location))
      // Every other time it is the second hop that leads astray.
      paths.set(twice, sendOn(307, index % 2 === 0 ? on : `${secure}${on}`))
      const door = DOORS[index % DOORS.length] ?? 'native'
      return Promise.all(
        [on, twice].map(async (path) => {
          const url = `${origin.origin}${path}${SIGNED}`
          const reason = await reasonOf(person, await askToImport(person, door, url))
          for (const word of ['127.0.0.1', 'localhost', 'passwd', '169.254']) {
            assert.ok(!reason.includes(word), `${location}: ${reason}`)
          }
          return reason
        }),
      )
    })
    return new Set((await Promise.all(reasons)).flat())
  }
  const said = [...(await refused('inside', inside))]
  // One text for whatever is or is not there, one for ports of other protocols, and one for the way down from TLS.
  assert.equal(said.length, 3, said.join('\n'))
  assert.equal(said.filter((text) => /not a public one/.test(text)).length, 1)
  assert.equal(said.filter((text) => /port belongs to another protocol/.test(text)).length, 1)
  assert.equal(said.filter((text) => /from https to http/.test(text)).length, 1)
  for (const text of await refused('odd', odd))
    assert.match(text, /^Nothing can be fetched from this address\./)

  // Down from TLS to an address that is allowed itself, and round in circles.
  paths.set('/down', sendOn(302, `${origin.origin}/never`))
  const down = await askNative(person, { name: 'down', url: `${secure}/down` })
  assert.match(await reasonOf(person, down), /from https to http/)
  assert.deepEqual(requestsOf(depot, '/never'), [])
  paths.set('/circle', sendOn(302, '/circle'))
  assert.match(await reasonOf(person, await importFrom(depot, '/circle')), /sends us on too often/)
  assert.equal(requestsOf(depot, '/circle').length, 6)
}

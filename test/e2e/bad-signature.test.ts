import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { KeyPair } from '../../demo/clients.ts'
import { idle } from './harness.ts'
import { good, importSmall, inventory, newSmallPlace, personOf } from './small-place.ts'
import { HOME, nativeCalls, type Things, uhostCalls, wuyingCalls } from './valid-calls.ts'
import {
  type Answer,
  assertEnvelope,
  type Door,
  type Sent,
  signedNative,
  signedUhost,
  signedV1,
  signedV3,
  wuyingV3,
} from './wire.ts'

const MINUTE_MS = 60_000
const WINDOW_SECONDS = 900

/** Code or RetCode or reason, whichever the door has, beside the HTTP status. */
function wordOf(door: Door, { status, json }: Answer): readonly [number, unknown] {
  if (door === 'wuying') return [status, json.Code]
  if (door === 'uhost') return [status, json.RetCode]
  const { reason } = (json.error ?? {}) as { reason?: string }
  return [status, reason]
}

test('requests that are not the caller’s, not of now, or not new', async (t) => {
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const { projects } = await good<{ projects: { id: string }[] }>(root.native('GET', '/v1/projects'))
  const project = projects[0]?.id ?? ''
  const things = { project, base: () => base } as unknown as Things
  const launch = wuyingCalls.CreateDesktops?.(things) ?? {}
  const host = uhostCalls.CreateUHostInstance?.(things) ?? {}
  const machine = nativeCalls['POST /v1/machines']?.(things) ?? { path: '' }
  const { key } = place.server
  const before = await inventory(root)

  /** The same call, that would make a machine, in every scheme there is. */
  const all = (by: KeyPair = key, nowMs = Date.now()): readonly (readonly [Door, Sent])[] => {
    const { endpoint } = place.server
    const form = { method: 'POST' as const, nowMs }
    return [
      ['wuying', signedV1(by, 'CreateDesktops', launch, form)],
      ['wuying', signedV1(by, 'CreateDesktops', launch, { ...form, method: 'GET' })],
      ['wuying', wuyingV3(endpoint, by, 'CreateDesktops', launch, { nowMs })],
      ['native', signedNative(endpoint, by, 'POST', machine.path, machine, { nowMs })],
      ['uhost', signedUhost(by, 'CreateUHostInstance', host)],
      ['uhost', signedUhost(by, 'CreateUHostInstance', host, { method: 'GET' })],
    ]
  }
  const refused = async (door: Door, sent: Sent, expected: Readonly<Record<Door, unknown>>, says = /./) => {
    const answer = await place.wire.send(sent)
    assertEnvelope(door, answer)
    assert.deepEqual(wordOf(door, answer), expected[door], answer.text)
    assert.match(answer.text, says)
  }

  await t.test('a wrong secret, a changed request, an unknown key', async () => {
    const mismatch = {
      wuying: [400, 'SignatureDoesNotMatch'],
      uhost: [200, 171],
      native: [403, 'signature-mismatch'],
    }
    for (const [door, sent] of all({ ...key, accessKeySecret: 'x'.repeat(40) })) {
      await refused(door, sent, mismatch)
    }
    for (const [door, sent] of all({ ...key, accessKeySecret: '' })) await refused(door, sent, mismatch)
    for (const [door, sent] of all()) {
      const swap = (text: string) => text.replace(/made-\d+/, 'changed')
      const body = Buffer.from(swap(sent.body.toString()))
      await refused(door, { ...sent, url: swap(sent.url), body }, mismatch)
    }
    for (const id of ['CALOunknown', "x' or '1'='1", 'a'.repeat(128)]) {
      // Only the older schemes can carry such an id.
      const schemes = all({ ...key, accessKeyId: id }).filter(
        ([, sent]) => !sent.headers.authorization || !/[' ]/.test(id),
      )
      for (const [door, sent] of schemes) {
        await refused(door, sent, {
          wuying: [404, 'InvalidAccessKeyId.NotFound'],
          uhost: [200, 172],
          native: [403, 'key-unknown'],
        })
      }
    }
    assert.deepEqual(await inventory(root), before)
  })

  await t.test('what belongs to the signature, missing one by one', async () => {
    for (const name of [
      'Action',
      'Version',
      'AccessKeyId',
      'Timestamp',
      'SignatureMethod',
      'SignatureVersion',
      'SignatureNonce',
    ]) {
      for (const value of [undefined, '']) {
        const sent = signedV1(key, 'CreateDesktops', launch, { change: { [name]: value } })
        const answer = await place.wire.send(sent)
        assertEnvelope('wuying', answer)
        assert.deepEqual(wordOf('wuying', answer), [400, `Missing${name}`])
      }
    }
    const unsigned = signedV1(key, 'CreateDesktops', launch, { method: 'GET' })
    const url = unsigned.url.replace(/&Signature=[^&]*/, '')
    assert.deepEqual(wordOf('wuying', await place.wire.send({ ...unsigned, url })), [400, 'MissingSignature'])

    const v3 = wuyingV3(place.server.endpoint, key, 'CreateDesktops', launch)
    for (const [name, code] of [
      ['x-acs-action', 'MissingAction'],
      ['x-acs-version', 'MissingVersion'],
      ['x-acs-date', 'Missingx-acs-date'],
      ['x-acs-signature-nonce', 'Missingx-acs-signature-nonce'],
      ['x-acs-content-sha256', 'Missingx-acs-content-sha256'],
    ] as const) {
      const headers = Object.fromEntries(Object.entries(v3.headers).filter(([header]) => header !== name))
      assert.deepEqual(wordOf('wuying', await place.wire.send({ ...v3, headers })), [400, code])
    }
    for (const authorization of [
      'ACS3-HMAC-SHA256',
      'ACS3-HMAC-SHA256 Credential=x',
      'ACS9-X y',
      'ACS3-HMAC-SHA256 ,,,',
    ]) {
      const { status, json } = await place.wire.send({ ...v3, headers: { ...v3.headers, authorization } })
      assert.equal(status, 400)
      assert.match(String(json.Code), /^Invalid(Authorization|SignatureMethod)$/)
    }

    const uhost = async (change: Record<string, string | undefined>) =>
      wordOf('uhost', await place.wire.send(signedUhost(key, 'CreateUHostInstance', host, { change })))[1]
    assert.equal(await uhost({ Action: undefined }), 160)
    assert.equal(await uhost({ Action: '' }), 160)
    assert.equal(await uhost({ PublicKey: undefined }), 220)
    assert.equal(await uhost({ SecurityToken: 'token' }), 174)
    const bare = signedUhost(key, 'CreateUHostInstance', host, { method: 'GET' })
    const noSignature = { ...bare, url: bare.url.replace(/&Signature=[^&]*/, '') }
    assert.equal(wordOf('uhost', await place.wire.send(noSignature))[1], 170)
    const bearer = { ...bare, headers: { authorization: 'Bearer abc' } }
    assert.equal(wordOf('uhost', await place.wire.send(bearer))[1], 171)
    assert.equal(
      wordOf('uhost', await place.wire.send({ ...noSignature, ...{ headers: bearer.headers } }))[1],
      174,
    )

    const native = signedNative(place.server.endpoint, key, 'POST', machine.path, machine)
    for (const name of ['authorization', 'x-acs-date', 'x-acs-signature-nonce', 'x-acs-content-sha256']) {
      const headers = Object.fromEntries(Object.entries(native.headers).filter(([header]) => header !== name))
      const answer = await place.wire.send({ ...native, headers })
      assert.equal(answer.status, 403, answer.text)
      assertEnvelope('native', answer)
    }
    assert.deepEqual(await inventory(root), before)
  })

  await t.test('unknown actions and versions, tokens that nobody gave out', async () => {
    const unknown = await root.wuying('RebootTheMoon', { RegionId: HOME })
    assert.deepEqual(wordOf('wuying', unknown), [404, 'InvalidAction.NotFound'])
    const v3 = wuyingV3(place.server.endpoint, key, 'RebootTheMoon', { RegionId: HOME })
    assert.deepEqual(wordOf('wuying', await place.wire.send(v3)), [404, 'InvalidAction.NotFound'])
    const { json } = await root.uhost('RebootTheMoon', {})
    assert.equal(json.RetCode, 161)
    assert.match(String(json.Message), /^Action \[RebootTheMoon\] not found\. This service knows GetRegion, /)
    for (const version of ['2019-01-01', '2020-09-31', 'x']) {
      const old = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { change: { Version: version } })
      assert.deepEqual(wordOf('wuying', await place.wire.send(old)), [400, 'InvalidVersion'])
      const newer = wuyingV3(place.server.endpoint, key, 'DescribeRegions', { RegionId: HOME }, { version })
      assert.deepEqual(wordOf('wuying', await place.wire.send(newer)), [400, 'InvalidVersion'])
    }
    for (const [change, code] of [
      [{ SecurityToken: 'token' }, 'InvalidSecurityToken.MismatchWithAccessKey'],
      [{ SignatureMethod: 'HMAC-MD5' }, 'InvalidSignatureMethod'],
      [{ SignatureVersion: '2.0' }, 'InvalidSignatureVersion'],
      [{ SignatureType: 'BEARERTOKEN', BearerToken: 'x' }, 'InvalidBearerToken'],
      [{ Format: 'YAML' }, 'InvalidParameter.Format'],
      [{ Timestamp: 'yesterday' }, 'InvalidTimeStamp.Format'],
      [{ Timestamp: '2026-02-31T25:61:00Z' }, 'InvalidTimeStamp.Format'],
      [{ SignatureNonce: 'n'.repeat(257) }, 'InvalidSignatureNonce'],
    ] as const) {
      const sent = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { change })
      assert.deepEqual(wordOf('wuying', await place.wire.send(sent)), [400, code])
    }
  })

  await t.test('clocks that are 20 minutes off, either way', async () => {
    for (const minutes of [-20, 20]) {
      const nowMs = Date.now() + minutes * MINUTE_MS
      for (const [door, sent] of all(key, nowMs)) {
        if (door === 'uhost') continue
        await refused(
          door,
          sent,
          { wuying: [400, 'InvalidTimeStamp.Expired'], native: [403, 'clock'], uhost: undefined },
          /clock .*Set yours/,
        )
      }
    }
    assert.deepEqual(await inventory(root), before)
    for (const minutes of [-14, 14]) {
      const nowMs = Date.now() + minutes * MINUTE_MS
      const v1 = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { nowMs })
      assert.equal((await place.wire.send(v1)).status, 200)
      const v3 = wuyingV3(place.server.endpoint, key, 'DescribeRegions', { RegionId: HOME }, { nowMs })
      assert.equal((await place.wire.send(v3)).status, 200)
      const native = signedNative(place.server.endpoint, key, 'GET', '/v1/regions', {}, { nowMs })
      assert.equal((await place.wire.send(native)).status, 200)
    }
  })

  await t.test('UHost knows a clock only where the operator asks for it', async (sub) => {
    const window = { CALOTYPE_UHOST_REPLAY_WINDOW_SECONDS: String(WINDOW_SECONDS) }
    const strict = await newSmallPlace(sub, window)
    const codeAt = async (offMs: number) => {
      const sent = signedUhost(strict.server.key, 'GetRegion', {})
      const headers = { ...sent.headers, 'u-timestamp-ms': String(Date.now() + offMs) }
      const { json } = await strict.wire.send({ ...sent, headers })
      if (json.RetCode !== 0) assert.match(String(json.Message), /from our clock; at most 900 s/)
      return json.RetCode
    }
    assert.deepEqual(
      [
        await codeAt(-20 * MINUTE_MS),
        await codeAt(20 * MINUTE_MS),
        await codeAt(-14 * MINUTE_MS),
        await codeAt(0),
      ],
      [171, 171, 0, 0],
    )
  })

  await t.test('headers about the caller change nothing', async () => {
    const made = await good<{ accessKeyId: string; accessKeySecret: string }>(
      root.native('POST', '/v1/users', { body: { name: 'far' } }),
    )
    const statement = (Condition: unknown) => ({
      document: { Version: '1', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*', Condition }] },
    })
    const address = statement({ IpAddress: { 'acs:SourceIp': '203.0.113.9' } })
    await good(root.native('PUT', '/v1/policies/far', { body: address }))
    await good(root.native('POST', '/v1/attachments', { body: { user: 'far', policy: 'far' } }))
    const headers = {
      'x-forwarded-for': '203.0.113.9',
      'x-real-ip': '203.0.113.9',
      forwarded: 'for=203.0.113.9;proto=https',
      'x-forwarded-proto': 'https',
      'x-forwarded-user': 'root',
      'x-forwarded-host': 'elsewhere.example',
      'x-remote-user': 'root',
      'x-original-url': '/v1/projects',
      'x-http-method-override': 'DELETE',
    }
    const look = async () => {
      const sent = signedV1(made, 'DescribeImages', { RegionId: HOME })
      return wordOf('wuying', await place.wire.send({ ...sent, headers: { ...sent.headers, ...headers } }))
    }
    assert.deepEqual(await look(), [403, 'NoPermission'])
    const secure = statement({ Bool: { 'acs:SecureTransport': 'true' } })
    await good(root.native('PUT', '/v1/policies/far', { body: secure }))
    assert.deepEqual(await look(), [403, 'NoPermission'])
    const mine = statement({ IpAddress: { 'acs:SourceIp': '127.0.0.1' } })
    await good(root.native('PUT', '/v1/policies/far', { body: mine }))
    assert.deepEqual(await look(), [200, undefined])

    const plain = signedV1(key, 'DescribeRegions', { RegionId: HOME })
    const asked = await place.wire.send({ ...plain, headers: { ...plain.headers, ...headers } })
    const [region] = asked.json.Regions as { RegionEndpoint: string }[]
    assert.equal(region?.RegionEndpoint, place.server.endpoint.host)
    // One of the signed family that was not signed could be anybody's.
    const v3 = wuyingV3(place.server.endpoint, key, 'DescribeRegions', { RegionId: HOME })
    const late = { ...v3, headers: { ...v3.headers, 'x-acs-caller-uid': '1' } }
    assert.deepEqual(wordOf('wuying', await place.wire.send(late)), [400, 'SignatureDoesNotMatch'])
    const log = readFileSync(join(place.data, 'server.log'), 'utf8')
    assert.doesNotMatch(log, /203\.0\.113\.9/)
  })

  await t.test('a request that was sent before, also across a restart', async () => {
    const nonce = randomUUID()
    // A nonce of a request with a bad signature is not used up.
    const forged = { ...key, accessKeySecret: 'x'.repeat(40) }
    await place.wire.send(
      signedV1(forged, 'DescribeRegions', { RegionId: HOME }, { change: { SignatureNonce: nonce } }),
    )
    const first = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { change: { SignatureNonce: nonce } })
    assert.equal((await place.wire.send(first)).status, 200)
    const changed = signedV1(key, 'DescribeImages', { RegionId: HOME }, { change: { SignatureNonce: nonce } })
    assert.deepEqual(wordOf('wuying', await place.wire.send(changed)), [400, 'SignatureNonceUsed'])

    const sentOnce = all().filter(([door]) => door !== 'uhost')
    for (const [, sent] of sentOnce) assert.ok((await place.wire.send(sent)).status < 300)
    const again = { wuying: [400, 'SignatureNonceUsed'], native: [403, 'nonce-used'], uhost: undefined }
    for (const [door, sent] of sentOnce) await refused(door, sent, again)
    // Many at once: only one is new.
    const burst = signedV3(place.server.endpoint, key, { method: 'GET', url: '/v1/regions' })
    const answers = await Promise.all(Array.from({ length: 8 }, () => place.wire.send(burst)))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(7).fill(403)])

    await idle(place.server)
    const known = await inventory(root)
    assert.equal(known.filter((line) => line.startsWith('vm-')).length, 4)
    const { host: oldHost } = place.server.endpoint
    await place.restart()
    for (const [door, sent] of sentOnce) {
      // The port is another one, the signed Host is the old one: only the nonce stands against it.
      assert.ok(sent.headers.host === undefined || sent.headers.host === oldHost)
      await refused(door, sent, again)
    }
    const machines = (await inventory(root)).filter((line) => line.startsWith('vm-'))
    assert.equal(machines.length, 4)
  })
})

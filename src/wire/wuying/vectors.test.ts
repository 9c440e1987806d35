import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { suite, test } from 'node:test'
import { acs3StringToSign, decodePairs, findAcs3, splitUrl, verifyAcs3 } from '../acs3.ts'
import type { WireRequest } from '../gateway-contract.ts'
import { createBench } from './fixture.ts'
import { acs3Request, KEY, rawRequest, refusalOf } from './fixture-requests.ts'
import { unpack } from './request.ts'
import { rpcStringToSign, signRpc, verifyRpc } from './signature.ts'

interface Vector {
  readonly name: string
  readonly scheme: 'V1' | 'V3'
  readonly accessKeySecret: string
  readonly securityToken: string | null
  readonly apiParams: Readonly<Record<string, unknown>>
  readonly request: {
    readonly method: string
    readonly rawUrl: string
    readonly headers: Record<string, string>
    readonly body: string
  }
  readonly canonicalQuery?: string
  readonly signedHeaders?: readonly string[] | string
  readonly stringToSign: string
  readonly signature: string
}

const file = JSON.parse(
  readFileSync(new URL('../../../test/vectors/wuying.json', import.meta.url), 'utf8'),
) as {
  readonly vectors: readonly Vector[]
  readonly negative: readonly { basedOn: string; mutation: string; expectedCode: string }[]
}

function rawOf({ request }: Vector): WireRequest {
  const { method, rawUrl, headers, body } = request
  return rawRequest({ method, url: rawUrl, headers, body: Buffer.from(body) })
}

function vectorNamed(name: string): Vector {
  const found = file.vectors.find((vector) => vector.name === name)
  assert.ok(found)
  return found
}

function acs3Of(raw: WireRequest) {
  const { path, queryText } = splitUrl(raw.url)
  return {
    method: raw.method,
    path,
    query: decodePairs(queryText),
    headers: raw.headers,
    body: raw.body,
  }
}

/** The wire form of the call parameters: wuying.md §1.4. */
function flatten(value: unknown, name: string): [string, string][] {
  if (Array.isArray(value)) return value.flatMap((item, i) => flatten(item, `${name}.${i + 1}`))
  if (typeof value === 'object' && value !== null)
    return Object.entries(value).flatMap(([key, child]) =>
      flatten(child, name === '' ? key : `${name}.${key}`),
    )
  return [[name, String(value)]]
}

suite('recorded requests of official clients', () => {
  for (const vector of file.vectors) {
    test(`${vector.name} verifies`, () => {
      const raw = rawOf(vector)
      const unpacked = unpack(raw)
      for (const [name, value] of flatten(vector.apiParams, ''))
        assert.equal(unpacked.parameters.get(name), value, name)
      if (vector.scheme === 'V1') {
        assert.equal(unpacked.authorization, undefined)
        assert.equal(rpcStringToSign(raw.method, unpacked.parameters), vector.stringToSign)
        assert.equal(signRpc(vector.stringToSign, vector.accessKeySecret), vector.signature)
        verifyRpc(raw.method, unpacked.parameters, vector.accessKeySecret)
        assert.throws(() => verifyRpc(raw.method, unpacked.parameters, 'another secret'))
      } else {
        const { authorization } = unpacked
        assert.ok(authorization)
        assert.equal(acs3StringToSign(acs3Of(raw), authorization.signedHeaders), vector.stringToSign)
        assert.equal(authorization.signature, vector.signature)
        verifyAcs3(acs3Of(raw), authorization, vector.accessKeySecret, ['host', 'x-acs-date'])
        assert.throws(() => verifyAcs3(acs3Of(raw), authorization, 'another secret', []))
      }
    })

    test(`${vector.name} passes the door, which knows no temporary key`, async () => {
      const bench = createBench()
      const answer = await bench.door.handle(rawOf(vector))
      const [, code] = refusalOf(answer)
      const served = ['DescribeRegions', 'CreateImage', 'DescribeImages']
      if (!served.includes(unpack(rawOf(vector)).action)) assert.equal(code, 'InvalidAction.NotFound')
      else if (vector.securityToken !== null) assert.equal(code, 'InvalidSecurityToken.MismatchWithAccessKey')
      // Past the door's checks: the recorded requests name computers and snapshots that do not exist here.
      else
        assert.ok(
          [
            undefined,
            'InvalidSnapshotIds.Unsupported',
            'InvalidDesktopId.NotFound',
            'InvalidSnapshotId.NotFound',
          ].includes(code as undefined),
          String(code),
        )
    })
  }
})

/** Each mutation of the file, by its words. */
const MUTATIONS: Record<string, (vector: Vector) => Promise<readonly [number, unknown]>> = {
  'change one character of the Signature parameter': async (vector) => {
    const raw = rawOf(vector)
    return refusalOf(
      await createBench().door.handle({ ...raw, url: raw.url.replace('Signature=S', 'Signature=T') }),
    )
  },
  'change RegionId without re-signing': async (vector) => {
    const raw = rawOf(vector)
    const url = raw.url.replace('cn-hangzhou', 'cn-shanghai')
    return refusalOf(await createBench().door.handle({ ...raw, url }))
  },
  'send the same request twice': async (vector) => {
    const { door } = createBench()
    assert.equal((await door.handle(rawOf(vector))).status, 200)
    return refusalOf(await door.handle(rawOf(vector)))
  },
  'verify with a clock far from the timestamp': async (vector) => {
    const bench = createBench()
    bench.nowMs += 20 * 60_000
    return refusalOf(await bench.door.handle(rawOf(vector)))
  },
  'verify against a key store without this AccessKeyId': async (vector) =>
    refusalOf(await createBench([{ keyId: 'another', secret: 'x' }]).door.handle(rawOf(vector))),
  'change one byte of the body': async (vector) => {
    const raw = rawOf(vector)
    const body = Buffer.from(raw.body)
    body[body.length - 1] = 0x32
    return refusalOf(await createBench().door.handle({ ...raw, body }))
  },
  'drop x-acs-security-token': async (vector) => {
    const raw = rawOf(vector)
    const { 'x-acs-security-token': _dropped, ...headers } = raw.headers
    return refusalOf(await createBench().door.handle({ ...raw, headers }))
  },
  'add an x-acs-* header that is not in SignedHeaders': async (vector) => {
    const raw = rawOf(vector)
    return refusalOf(
      await createBench().door.handle({ ...raw, headers: { ...raw.headers, 'x-acs-extra': '1' } }),
    )
  },
}

suite('recorded requests, changed', () => {
  for (const { basedOn, mutation, expectedCode } of file.negative) {
    test(`${basedOn}: ${mutation}`, async () => {
      const mutate = MUTATIONS[mutation]
      assert.ok(mutate, 'every mutation of the file is tried')
      const [status, code] = await mutate(vectorNamed(basedOn))
      // Where nothing is published we say that the signature does not match.
      const expected = expectedCode === 'unconfirmed' ? 'SignatureDoesNotMatch' : expectedCode
      assert.ok(expected.split(' or ').includes(String(code)), String(code))
      assert.equal(status, code === 'InvalidAccessKeyId.NotFound' ? 404 : 400)
    })
  }
})

test('our own signing is what verification takes, on any path', () => {
  const raw = acs3Request('DescribeRegions')
  const authorization = findAcs3(raw.headers.authorization)
  assert.ok(authorization)
  verifyAcs3(acs3Of(raw), authorization, KEY.secret, ['host'])
  assert.throws(
    () => verifyAcs3({ ...acs3Of(raw), path: '/v1/images' }, authorization, KEY.secret, ['host']),
    {
      reason: 'signature-mismatch',
    },
  )
})

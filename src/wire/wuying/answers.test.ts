import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import fc from 'fast-check'
import { Fault } from '../../image/fault.ts'
import { createBench } from './fixture.ts'
import { acs3Request, contentOf, KEY, rawRequest, refusalOf, rpcRequest } from './fixture-requests.ts'
import { OWN } from './fixture-rows.ts'
import { OPERATIONS } from './operations/index.ts'

suite('what the inside refuses', () => {
  const ask = async (
    failure: unknown,
    action = 'DescribeImages',
    parameters: Record<string, string> = {},
  ) => {
    const bench = createBench()
    bench.app.failure = failure
    return { answer: await bench.ask(action, parameters), bugs: bench.bugs }
  }

  for (const [reason, type] of [
    ['explicit', 'ExplicitDeny'],
    ['implicit', 'ImplicitDeny'],
  ] as const) {
    test(`a policy that says no (${reason})`, async () => {
      const { answer } = await ask(new Fault('denied', 'No.', { reason }))
      assert.deepEqual(refusalOf(answer), [403, 'NoPermission'])
      const { Message, AccessDeniedDetail, Recommend } = contentOf(answer)
      assert.equal(
        Message,
        'You are not authorized to do this action. Resource: * Action: ecd:DescribeImages',
      )
      assert.equal(Recommend, undefined)
      assert.deepEqual(AccessDeniedDetail, {
        AuthAction: 'ecd:DescribeImages',
        AuthPrincipalType: 'SubUser',
        AuthPrincipalOwnerId: '1000000000000001',
        AuthPrincipalDisplayName: `user-of-${KEY.keyId}`,
        NoPermissionType: type,
        PolicyType: 'AccountLevelIdentityBasedPolicy',
      })
    })
  }

  const table: [Fault, number, string][] = [
    [new Fault('absent', 'm', { subject: 'image' }), 404, 'InvalidImageId.NotFound'],
    [new Fault('absent', 'm', { subject: 'machine' }), 404, 'InvalidDesktopId.NotFound'],
    [new Fault('absent', 'm', { subject: 'region' }), 404, 'InvalidRegionId.NotFound'],
    [new Fault('absent', 'm', { subject: 'project' }), 404, 'InvalidProject.NotFound'],
    [new Fault('conflict', 'm', { subject: 'machine' }), 400, 'IncorrectDesktopStatus'],
    [new Fault('conflict', 'm', { subject: 'image' }), 400, 'IncorrectImageStatus'],
    [new Fault('conflict', 'm', { subject: 'task' }), 400, 'OperationConflict'],
    [new Fault('invalid', 'm', { subject: 'name' }), 400, 'InvalidImageName.Malformed'],
    [new Fault('invalid', 'm', { subject: 'description' }), 400, 'InvalidDescription.Malformed'],
    [new Fault('invalid', 'm', { subject: 'image', reason: 'not-custom' }), 403, 'SystemImageNotSupported'],
    [
      new Fault('invalid', 'm', { subject: 'disk', reason: 'disk-below-image' }),
      400,
      'InvalidSystemDiskSize',
    ],
    [
      new Fault('invalid', 'm', { subject: 'image', reason: 'same-place' }),
      400,
      'InvalidDestinationRegionId.Same',
    ],
    [new Fault('invalid', 'm', { subject: 'image', reason: 'not-a-copy' }), 400, 'ImageCreatedNotFromCopy'],
    [new Fault('full', 'm', { subject: 'image' }), 400, 'QuotaExceeded.Image'],
    [new Fault('full', 'm', { subject: 'project', reason: 'quota' }), 400, 'QuotaExceeded.Storage'],
    [new Fault('full', 'm', { subject: 'store', reason: 'room' }), 400, 'QuotaExceeded.Storage'],
    [new Fault('full', 'm', { subject: 'machine' }), 400, 'QuotaExceeded.Desktop'],
    [new Fault('full', 'm', { subject: 'store' }), 400, 'QuotaExceeded.Storage'],
    [new Fault('full', 'm', { subject: 'host' }), 403, 'OperationDenied.NoStock'],
    [new Fault('unavailable', 'm', { subject: 'store' }), 503, 'ServiceUnavailable'],
    [new Fault('corrupt', 'm', { subject: 'image' }), 400, 'IncorrectImageStatus'],
    [new Fault('corrupt', 'm', { subject: 'store' }), 500, 'InternalError'],
  ]
  for (const [fault, status, code] of table) {
    test(`${fault.kind} ${fault.subject} ${fault.reason ?? ''}`, async () => {
      const { answer } = await ask(fault)
      assert.deepEqual(refusalOf(answer), [status, code])
      assert.equal(contentOf(answer).Message, 'm')
    })
  }

  test('what the inside says of a copy is said of its own parameters', async () => {
    const copy = { ImageId: OWN, DestinationRegionId: 'cn-shanghai', DestinationImageName: 'copy-1' }
    for (const [subject, code] of [
      ['name', 'InvalidDestinationImageName.Malformed'],
      ['description', 'InvalidDestinationDescription.Malformed'],
    ] as const) {
      const { answer } = await ask(new Fault('invalid', 'm', { subject }), 'CopyImage', copy)
      assert.deepEqual(refusalOf(answer), [400, code])
    }
  })

  test('a bug is logged, and tells the caller nothing', async () => {
    const bug = new TypeError('secret path /var/lib/secret')
    const { answer, bugs } = await ask(bug)
    assert.deepEqual(refusalOf(answer), [500, 'InternalError'])
    assert.deepEqual(bugs, [bug])
    assert.doesNotMatch(String(answer.body), /secret|TypeError| at |</)
  })

  test('what the gateway refuses itself has the same form, in the format asked for', () => {
    const bench = createBench()
    const refuse = (fault: Fault, raw = rpcRequest('DescribeRegions')) => bench.door.refuse(fault, raw)
    const tooLarge = new Fault('invalid', 'm', { reason: 'too-large' })
    assert.deepEqual(refusalOf(refuse(tooLarge)), [413, 'RequestBodyTooLarge'])
    assert.equal(contentOf(refuse(tooLarge)).HostId, '127.0.0.1:18099')
    const malformed = new Fault('invalid', 'm', { reason: 'malformed' })
    assert.deepEqual(refusalOf(refuse(malformed, rawRequest({ url: '/%' }))), [400, 'MalformedRequest'])
    const internal = new Fault('unavailable', 'm', { reason: 'internal' })
    assert.deepEqual(refusalOf(refuse(internal)), [500, 'InternalError'])
    assert.match(String(refuse(tooLarge, rpcRequest('DescribeRegions', { Format: 'XML' })).body), /<Error>/)
  })

  test('the cause of a fault of ours is logged and not answered', async () => {
    const fault = new Fault('full', 'm', { subject: 'store', cause: new Error('ENOSPC /secret') })
    const { answer, bugs } = await ask(fault)
    assert.deepEqual(refusalOf(answer), [400, 'QuotaExceeded.Storage'])
    assert.deepEqual(bugs, [fault])
    assert.doesNotMatch(String(answer.body), /secret/)
  })
})

suite('XML', () => {
  test('is answered when asked for', async () => {
    const answer = await createBench().ask('DescribeRegions', { Format: 'XML', AcceptLanguage: 'en' })
    assert.equal(answer.headers['content-type'], 'text/xml;charset=utf-8')
    assert.equal(
      answer.body,
      '<?xml version="1.0" encoding="UTF-8"?>\n<DescribeRegionsResponse>' +
        '<Regions><RegionId>cn-hangzhou</RegionId><LocalName>Hangzhou</LocalName><RegionEndpoint>127.0.0.1:18099</RegionEndpoint></Regions>' +
        '<Regions><RegionId>cn-shanghai</RegionId><LocalName>Shanghai</LocalName><RegionEndpoint>127.0.0.1:18099</RegionEndpoint></Regions>' +
        '<RequestId>00000000-0000-4000-8000-000000000001</RequestId></DescribeRegionsResponse>',
    )
  })

  test('of a refusal is an escaped Error', async () => {
    const raw = acs3Request(
      'DescribeImages',
      { ImageStatus: '<b>&"\u0001' },
      { headers: { accept: 'text/xml' } },
    )
    const answer = await createBench().door.handle(raw)
    assert.equal(answer.status, 400)
    assert.match(
      String(answer.body),
      /^<\?xml version="1.0" encoding="UTF-8"\?>\n<Error><RequestId>.*<\/Error>$/,
    )
    assert.match(String(answer.body), /<Code>InvalidImageStatus<\/Code>/)
    const hostile = rawRequest({
      ...rpcRequest('DescribeRegions', { Format: 'xml' }),
      headers: { host: '<&"\'\u0002' },
    })
    const { body } = await createBench([]).door.handle(hostile)
    assert.match(String(body), /<HostId>&lt;&amp;&quot;&apos;\ufffd<\/HostId>/)
  })
})

test('no request makes the door throw, answer HTML, or reach the inside unsigned', async () => {
  const bench = createBench()
  const known = [...new Set(OPERATIONS.flatMap(({ parameters }) => Object.keys(parameters)))]
  const name = fc.oneof(
    fc.constantFrom(
      ...known,
      '__proto__',
      'Format',
      'Tag.1.Key',
      'Tag.1.Value',
      'DesktopId.1',
      'BundleModels.1.EndUserIds.1',
    ),
    fc.string(),
  )
  const value = fc.oneof(
    fc.string({ unit: 'binary' }).filter((text) => text.isWellFormed()),
    fc.json(),
    fc.constantFrom('true', '1', 'ALL', ''),
  )
  const action = fc.constantFrom(...OPERATIONS.map((operation) => operation.name))
  await fc.assert(
    fc.asyncProperty(action, fc.dictionary(name, value), fc.boolean(), async (action, parameters, signed) => {
      const { Format: _format, RegionId: _region, ...rest } = parameters
      const key = signed ? KEY : { ...KEY, secret: 'wrong' }
      const callCount = bench.app.calls.length
      const answer = await bench.door.handle(
        acs3Request(action, { ...rest, RegionId: 'cn-hangzhou' }, { key }),
      )
      assert.notEqual(answer.status, 500, String(answer.body))
      assert.equal(typeof contentOf(answer).RequestId, 'string')
      if (!signed) assert.equal(bench.app.calls.length, callCount)
    }),
    { numRuns: 300 },
  )
  assert.deepEqual(bench.bugs, [])
})

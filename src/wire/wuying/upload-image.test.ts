import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { Fault } from '../../image/fault.ts'
import { createBench } from './fixture.ts'
import { contentOf, refusalOf } from './fixture-requests.ts'
import { LEAST } from './fixture-rows.ts'
import { addressOf } from './operations/upload-image.ts'

const least = LEAST.UploadImage ?? {}

suite('UploadImage', () => {
  test('with everything that has a meaning here', async () => {
    const bench = createBench()
    const answer = await bench.ask('UploadImage', {
      ...least,
      ImageName: '镜像:v1_a-b',
      Description: 'a b',
      OsType: 'Windows',
      ProtocolType: 'ASP',
      LicenseType: 'BYOL',
      EnableSecurityCheck: 'true',
      GpuCategory: 'false',
    })
    assert.equal(answer.status, 200, String(answer.body))
    assert.match(String(contentOf(answer).ImageId), /^m-[0-9a-z]{17}$/)
    assert.deepEqual(
      bench.app.calls.map(({ name, input }) => [name, input]),
      [
        [
          'images.import',
          {
            regionId: 'cn-hangzhou',
            name: '镜像:v1_a-b',
            description: 'a b',
            kind: 'custom',
            osType: 'Windows',
            from: {
              is: 'url',
              source: { url: 'https://bucket.oss-cn-hangzhou.example.com/a/disk.qcow2' },
            },
          },
        ],
      ],
    )
  })

  test('an object path means an address', () => {
    for (const [path, address] of [
      ['https://bucket:endpoint/object', 'https://bucket.endpoint/object'],
      ['https://my-bucket:oss.example.com/a/b.vhd?x=y', 'https://my-bucket.oss.example.com/a/b.vhd?x=y'],
      ['https://bucket:oss.example.com:8443/b', 'https://bucket.oss.example.com:8443/b'],
      ['http://bucket:endpoint/o', 'http://bucket.endpoint/o'],
      ['https://host.example.com:8443/x', 'https://host.example.com:8443/x'],
      ['https://host:443/x', 'https://host:443/x'],
      [
        'https://b.example.com/x?Signature=a%2Bb&Expires=1',
        'https://b.example.com/x?Signature=a%2Bb&Expires=1',
      ],
      // A name before an @ is left to the fetcher, which refuses it.
      ['https://user:pass@example.com/x', 'https://user:pass@example.com/x'],
      ['https://[::1]:80/x', 'https://[::1]:80/x'],
    ] as const)
      assert.equal(addressOf(path), address)
    for (const path of [
      'bucket/object',
      'oss://bucket/x',
      'https://host',
      'https://host/',
      '/x',
      'https:///x',
    ])
      assert.throws(() => addressOf(path), { kind: 'invalid', field: 'OssObjectPath' }, path)
  })

  for (const [change, status, code] of [
    [{ ImageName: '1st' }, 400, 'InvalidImageName.Malformed'],
    [{ ImageName: 'http://x' }, 400, 'InvalidImageName.Malformed'],
    [{ Description: 'https://x' }, 400, 'InvalidDescription.Malformed'],
    [{ OssObjectPath: 'file:///etc/passwd' }, 400, 'InvalidOssObjectPath.Malformed'],
    [{ OssObjectPath: 's3://bucket/x' }, 400, 'InvalidOssObjectPath.Malformed'],
    [{ OssObjectPath: `https://b:e/${'x'.repeat(4096)}` }, 400, 'InvalidOssObjectPath'],
    [{ OsType: 'BeOS' }, 400, 'InvalidOsType'],
    [{ ProtocolType: 'HDX' }, 400, 'InvalidProtocolType'],
    [{ LicenseType: 'Mine' }, 400, 'InvalidLicenseType'],
    [{ EnableSecurityCheck: 'yes' }, 400, 'InvalidEnableSecurityCheck'],
    [{ DataDiskSize: '79' }, 400, 'InvalidDataDiskSize'],
    [{ DataDiskSize: '501' }, 400, 'InvalidDataDiskSize'],
    [{ DataDiskSize: '80' }, 400, 'InvalidDataDiskSize.Unsupported'],
    [{ SystemDiskSize: 'large' }, 400, 'InvalidSystemDiskSize'],
    [{ SystemDiskSize: '40' }, 400, 'InvalidSystemDiskSize.Unsupported'],
    [{ GpuCategory: '1' }, 400, 'InvalidGpuCategory'],
    [{ GpuCategory: 'true' }, 400, 'InvalidGpuCategory.Unsupported'],
    [{ GpuDriverType: 'gpu_grid1' }, 400, 'InvalidGpuDriverType'],
    [{ GpuDriverType: 'gpu_grid9' }, 400, 'InvalidGpuDriverType.Unsupported'],
  ] as const) {
    test(`${JSON.stringify(change).slice(0, 60)} is ${code}`, async () => {
      const bench = createBench()
      const answer = await bench.ask('UploadImage', { ...least, ...change })
      assert.deepEqual(refusalOf(answer), [status, code], String(answer.body))
      assert.deepEqual(bench.app.calls, [])
    })
  }

  for (const [fault, status, code] of [
    [new Fault('absent', 'm', { subject: 'file' }), 404, 'InvalidOssObjectPath.NotFound'],
    [new Fault('denied', 'm', { subject: 'file' }), 400, 'InvalidOssObjectPath.AccessDenied'],
    [
      new Fault('invalid', 'm', { subject: 'file', reason: 'too-large' }),
      400,
      'InvalidOssObjectPath.NotSupported',
    ],
    [new Fault('invalid', 'm', { reason: 'address' }), 400, 'InvalidOssObjectPath.Forbidden'],
    [new Fault('invalid', 'm', { reason: 'url' }), 400, 'InvalidOssObjectPath.Malformed'],
    [new Fault('unavailable', 'm', { subject: 'file' }), 503, 'ServiceUnavailable'],
    [new Fault('full', 'm', { subject: 'project', reason: 'quota' }), 400, 'QuotaExceeded.Storage'],
    [new Fault('invalid', 'm', { subject: 'name' }), 400, 'InvalidImageName.Malformed'],
  ] as const) {
    test(`${fault.kind} ${fault.subject} ${fault.reason ?? ''} is ${code}`, async () => {
      const bench = createBench()
      bench.app.failure = fault
      assert.deepEqual(refusalOf(await bench.ask('UploadImage', least)), [status, code])
    })
  }

  test('a refusal does not repeat the address, which may be signed', async () => {
    const answer = await createBench().ask('UploadImage', {
      ...least,
      OssObjectPath: 'ftp://x/?Signature=hush',
    })
    assert.doesNotMatch(String(contentOf(answer).Message), /hush/)
  })
})

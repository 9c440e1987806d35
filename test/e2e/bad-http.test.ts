import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { idle } from './harness.ts'
import { chunked, lines, talk } from './raw-http.ts'
import { good, importSmall, inventory, newSmallPlace, personOf } from './small-place.ts'
import { HOME, type Things, uhostCalls, wuyingCalls } from './valid-calls.ts'
import {
  type Answer,
  carrying,
  type Sent,
  signedNative,
  signedUhost,
  signedV1,
  signedV3,
  wuyingV3,
} from './wire.ts'

const MIB = 1024 ** 2
const RSS_MIB_MAX = 200

test('HTTP that is too large, malformed, cut or strange', async (t) => {
  const place = await newSmallPlace(t)
  const root = personOf(place)
  const base = await importSmall(root, 'base', 'base')
  const { projects } = await good<{ projects: { id: string }[] }>(root.native('GET', '/v1/projects'))
  const things = { project: projects[0]?.id ?? '', base: () => base } as unknown as Things
  const launch = wuyingCalls.CreateDesktops?.(things) ?? {}
  const { key, endpoint } = place.server
  const secrets = [place.data, place.importDirectory, key.accessKeySecret]
  const say = (bytes: Buffer | string, end?: 'half close') => talk(endpoint, bytes, secrets, end)
  const only = async (bytes: Buffer | string): Promise<Answer> => {
    const answers = await say(bytes)
    assert.equal(answers.length, 1, `${answers.length} answers`)
    return answers[0] as Answer
  }
  const error = ({ json }: Answer) =>
    (json.error ?? {}) as { kind?: string; reason?: string; message?: string }
  const json = (text: string | Buffer): Sent => ({
    method: 'POST',
    url: '/',
    headers: { 'content-type': 'application/json' },
    body: Buffer.from(text),
  })
  const native = (body: string | Buffer, method = 'POST', url = '/v1/projects') =>
    signedV3(endpoint, key, { method, url, body: Buffer.from(body) })
  const before = await inventory(root)

  await t.test('bodies over 1 MiB, with a length or in chunks', async () => {
    const pad = 'x'.repeat(MIB)
    const wuying = signedV1(key, 'CreateDesktops', { ...launch, Pad: pad })
    const uhost = signedUhost(key, 'GetRegion', { Pad: pad })
    const ours = native(JSON.stringify({ name: pad }))
    for (const write of [lines, (sent: Sent) => chunked(sent, 65_536)]) {
      const refused = await only(write(wuying))
      assert.deepEqual([refused.status, refused.json.Code], [413, 'RequestBodyTooLarge'])
      assert.match(String(refused.json.Message), /over 1048576 bytes\. Send less/)
      const params = await only(write(uhost))
      assert.deepEqual([params.status, params.json.RetCode], [200, 240])
      assert.match(String(params.json.Message), /^Params \[Body\] too large: /)
      const large = await only(write(ours))
      assert.deepEqual([large.status, error(large).reason], [413, 'too-large'])
      const nobody = await only(write(json(`{"a":"${pad}"}`)))
      assert.equal(nobody.json.RetCode, 240)
    }
    // Just below the limit it is read.
    const fits = await place.wire.send(signedUhost(key, 'GetRegion', { Pad: 'x'.repeat(MIB - 500) }))
    assert.equal(fits.json.RetCode, 0)
  })

  await t.test('headers and lines that are no HTTP, or too much of it', async () => {
    const get = (more: string) => `GET /?Action=GetRegion&PublicKey=x HTTP/1.1\r\nhost: a\r\n${more}\r\n`
    for (const [bytes, status] of [
      [get(`x-bomb: ${'a'.repeat(20_000)}\r\n`), 431],
      [get(Array.from({ length: 3000 }, (_, i) => `a${i}: b\r\n`).join('')), 431],
      ['NONSENSE\r\n\r\n', 400],
      ['GET / HTTP/9.9\r\nhost: a\r\n\r\n', 400],
      ['FETCH / HTTP/1.1\r\nhost: a\r\n\r\n', 400],
      ['GET /\u0001 HTTP/1.1\r\nhost: a\r\n\r\n', 400],
      [get('bad header\r\n'), 400],
      [get('x: a\u0000b\r\n'), 400],
      [get('content-length: 3\r\ntransfer-encoding: chunked\r\n'), 400],
      [get('content-length: 3\r\ncontent-length: 4\r\n'), 400],
      [get('content-length: -1\r\n'), 400],
      [get('transfer-encoding: gzip\r\n'), 400],
      [`POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n`, 400],
      [`PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n`, 400],
      ['\u0016\u0003\u0001\u0002\u0000\u0001\u0000', 400],
    ] as const) {
      const answer = await only(Buffer.from(bytes, 'latin1'))
      assert.equal(answer.status, status, `${bytes.slice(0, 60)}: ${answer.text}`)
      assert.equal(error(answer).kind, 'invalid')
    }
    const close = 'connection: close\r\n'
    const noHost = await only(`GET /?Action=GetRegion&PublicKey=x HTTP/1.1\r\n${close}\r\n`)
    assert.match(noHost.text, /Host is missing/)
    // Strange, but good: what is asked is answered.
    const expecting = await only(get(`expect: the-unexpected\r\n${close}`))
    assert.equal(expecting.json.RetCode, 170)
    const absolute = await only(get(close).replace('GET /?', 'GET http://a/?'))
    assert.equal(absolute.json.RetCode, 170)
    const upgrade = await only(get(`upgrade: websocket\r\n${close}`))
    assert.equal(upgrade.json.RetCode, 170)
    for (const path of [
      '//',
      '/index.html',
      '/..%2f..%2fetc/passwd',
      '/%zz',
      '/console/../v2',
      '/V1/regions',
    ]) {
      const nowhere = await only(get(close).replace('/?', `${path}?`))
      assert.deepEqual([nowhere.status, error(nowhere).kind], [404, 'absent'], path)
    }
  })

  await t.test('wrong methods and content types', async () => {
    const v1 = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { method: 'GET' })
    const uhost = signedUhost(key, 'GetRegion', {}, { method: 'GET' })
    for (const method of ['PUT', 'DELETE', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND']) {
      const refused = await place.wire.send({ ...v1, method })
      assert.deepEqual([refused.status, refused.json.Code], [400, 'UnsupportedHTTPMethod'])
      assert.equal((await place.wire.send({ ...uhost, method })).json.RetCode, 230)
      const ours = await place.wire.send(native('', method, '/v1/regions'))
      assert.deepEqual([ours.status, error(ours).reason], [405, 'method-unsupported'])
      assert.match(String(error(ours).message), /takes GET, not/)
    }
    const form = signedV1(key, 'DescribeRegions', { RegionId: HOME })
    for (const type of ['application/json', 'text/plain', 'multipart/form-data; boundary=x', 'x']) {
      const query = signedV1(key, 'DescribeRegions', { RegionId: HOME }, { method: 'GET' })
      const sent = { ...query, method: 'POST', headers: { 'content-type': type }, body: form.body }
      const refused = await place.wire.send(sent)
      assert.deepEqual([refused.status, refused.json.Code], [400, 'InvalidContentType'])
    }
    for (const type of ['text/plain', 'multipart/form-data; boundary=x', 'x']) {
      const sent = { ...signedUhost(key, 'GetRegion', {}), headers: { 'content-type': type } }
      const { json: answer } = await place.wire.send(sent)
      assert.equal(answer.RetCode, 230)
      assert.match(String(answer.Message), /^Params \[Body\] not available: .*Content-Type/)
    }
  })

  await t.test('malformed JSON and forms, bytes that are not UTF-8, too deep, too many, twice', async () => {
    const deep = '['.repeat(20_000)
    const objects = '{"a":'.repeat(5000)
    const bad = [
      '{',
      '{"Action":',
      '[]',
      '"x"',
      'null',
      '{"Action":"GetRegion"}}',
      deep,
      objects,
      '{"a":1,"a":2}',
      '\ufeff{}',
      '{"a":1e999999}',
      '{"a":"\\ud800"}',
      '{"PublicKey":"x",}',
    ]
    for (const text of bad) {
      const answer = await place.wire.send(json(text))
      // Without Action there is no more to say than that it is missing.
      assert.ok(
        [230, 160].includes(Number(answer.json.RetCode)) || answer.json.service === 'calotype',
        answer.text,
      )
      const ours = await place.wire.send(native(text))
      assert.equal(ours.status, 400, `${text.slice(0, 40)}: ${ours.text}`)
    }
    const policy = { document: { Version: JSON.parse(`${'['.repeat(5000)}${']'.repeat(5000)}`) } }
    const nested = await place.wire.send(native(JSON.stringify(policy), 'PUT', '/v1/policies/deep'))
    assert.deepEqual([nested.status, error(nested).reason], [400, 'malformed'])

    const notUtf8 = Buffer.from([0x7b, 0x22, 0xff, 0xfe, 0x22, 0x3a, 0x31, 0x7d])
    assert.equal((await place.wire.send(native(notUtf8))).status, 400)
    for (const body of [
      Buffer.from('PublicKey=x&Action=\xff\xfe', 'latin1'),
      Buffer.from('PublicKey=x&Action=%ff'),
    ]) {
      const answer = await place.wire.send({ ...carrying('POST', []), body })
      assert.equal(answer.json.RetCode, 230)
      const v1 = Buffer.concat([Buffer.from('AccessKeyId=x&'), body.subarray(12)])
      const refused = await place.wire.send({ ...carrying('POST', []), body: v1 })
      assert.deepEqual([refused.status, refused.json.Code], [400, 'MalformedRequest'])
    }

    const many = (length: number) => Object.fromEntries(Array.from({ length }, (_, i) => [`P${i}`, '1']))
    assert.equal((await root.wuying('DescribeRegions', { RegionId: HOME, ...many(4000) })).status, 200)
    assert.equal((await root.uhost('GetRegion', many(4000))).json.RetCode, 0)
    const crowd = await root.wuying('DescribeRegions', { RegionId: HOME, ...many(50_000) })
    assert.deepEqual([crowd.status, crowd.json.Code], [413, 'RequestBodyTooLarge'])
    assert.match(crowd.text, /more than 5000 parameters\. Send fewer/)
    assert.equal((await root.uhost('GetRegion', many(50_000))).json.RetCode, 240)
    const values = JSON.stringify({ Action: 'GetRegion', PublicKey: 'x', a: Array(60_000).fill(1) })
    assert.match((await place.wire.send(json(values))).text, /over 50000 values/)
    const flatJson = JSON.stringify({ Action: 'GetRegion', PublicKey: 'x', ...many(6000) })
    assert.equal((await place.wire.send(json(flatJson))).json.RetCode, 240)
    const ids = Object.fromEntries(Array.from({ length: 4000 }, (_, i) => [`DesktopId.${i + 1}`, 'ecd-x']))
    const list = await root.wuying('StopDesktops', { RegionId: HOME, ...ids })
    assert.deepEqual([list.status, list.json.Code], [400, 'InvalidDesktopId'])
    assert.match(String(list.json.Message), /At most 100 items/)
    const place1 = { Region: HOME, ProjectId: things.project }
    const hosts = Object.fromEntries(Array.from({ length: 4000 }, (_, i) => [`UHostIds.${i}`, 'x']))
    assert.equal((await root.uhost('DescribeUHostInstance', { ...place1, ...hosts })).json.RetCode, 240)
    const dots = `A${'.1'.repeat(100_000)}`
    assert.equal((await root.wuying('DescribeRegions', { RegionId: HOME, [dots]: '1' })).status, 200)
    assert.equal((await root.uhost('GetRegion', { [dots]: '1' })).json.RetCode, 0)
    const magic = {
      __proto__x: '1',
      'constructor.prototype.x': '1',
      '__proto__.x': '1',
      'Tag.__proto__.Key': 'k',
    }
    assert.equal((await root.uhost('GetRegion', magic)).json.RetCode, 0)
    const tag = await root.wuying('CreateDesktops', { ...launch, ...magic })
    assert.deepEqual([tag.status, tag.json.Code], [400, 'InvalidTag'])
    const strange = await place.wire.send(native('{"__proto__":{"name":"x"},"name":"y"}'))
    assert.deepEqual([strange.status, error(strange).reason], [400, 'unknown-parameter'])

    const v1 = signedV1(key, 'CreateDesktops', launch)
    const doubled = { ...v1, body: Buffer.concat([v1.body, Buffer.from(`&DesktopName=other`)]) }
    const refused = await place.wire.send(doubled)
    assert.deepEqual([refused.status, refused.json.Code], [400, 'InvalidDesktopName'])
    assert.match(String(refused.json.Message), /given twice/)
    const uhost = signedUhost(key, 'CreateUHostInstance', uhostCalls.CreateUHostInstance?.(things) ?? {})
    const twice = { ...uhost, body: Buffer.concat([uhost.body, Buffer.from('&Name=other')]) }
    assert.match(String((await place.wire.send(twice)).json.Message), /^Params \[Name\] .*given twice/)
    const inBoth = { ...uhost, url: '/?Name=other' }
    assert.match(String((await place.wire.send(inBoth)).json.Message), /^Params \[Name\] .*given twice/)
    const sent = signedV3(endpoint, key, { method: 'GET', url: '/v1/images?region=hk&region=hk' })
    assert.equal((await place.wire.send(sent)).status, 400)
    const again = signedV3(endpoint, key, {
      method: 'POST',
      url: '/v1/projects?name=a',
      body: Buffer.from('{"name":"a"}'),
    })
    assert.match(String(error(await place.wire.send(again)).message), /given twice/)
    const same = await place.wire.send(native('{"name":"a","name":"b"}'))
    assert.equal(same.status, 400)
  })

  await t.test('cut bodies, and requests in a row on one connection', async () => {
    const v1 = signedV1(key, 'CreateDesktops', launch)
    const whole = lines(v1)
    // Whoever leaves in the middle gets no answer, and nothing is done.
    for (const part of [whole.length - 1, whole.length - v1.body.length, 40, 5]) {
      const answers = await say(whole.subarray(0, part), 'half close')
      assert.ok(
        answers.every(({ status }) => status === 400),
        `cut at ${part}`,
      )
    }
    const cutChunks = chunked(v1, 16)
    assert.deepEqual(
      await say(cutChunks.subarray(0, -9), 'half close').then((all) =>
        all.filter(({ status }) => status === 200),
      ),
      [],
    )
    assert.deepEqual(await inventory(root), before)

    const forged = signedV1({ ...key, accessKeySecret: 'wrong' }, 'CreateDesktops', launch)
    const regions = wuyingV3(endpoint, key, 'DescribeRegions', { RegionId: HOME })
    const unknown = signedUhost(key, 'Nonsense', {})
    const projectList = signedUhost(key, 'GetProjectList', {})
    const row = [forged, regions, unknown, projectList, signedNative(endpoint, key, 'GET', '/v1/nothing')]
    const answers = await say(Buffer.concat(row.map((sent, i) => lines(sent, [], i === row.length - 1))))
    assert.deepEqual(
      answers.map(({ status, json: got }) => [status, got.Code ?? got.RetCode]),
      [
        [400, 'SignatureDoesNotMatch'],
        [200, undefined],
        [200, 161],
        [200, 0],
        [404, undefined],
      ],
    )
    // A good one and then none: the good one has its own answer first.
    const fresh = wuyingV3(endpoint, key, 'DescribeRegions', { RegionId: HOME })
    const mixed = await say(Buffer.concat([lines(fresh, [], false), Buffer.from('NONSENSE\r\n\r\n')]))
    assert.deepEqual(
      mixed.map(({ status }) => status),
      [200, 400],
    )
    assert.ok(mixed[0]?.json.Regions !== undefined)
    const worse = await say(Buffer.from('NONSENSE\r\n\r\nGET /healthz HTTP/1.1\r\nhost: a\r\n\r\n'))
    assert.deepEqual(
      worse.map(({ status }) => status),
      [400],
    )
  })

  await t.test('after all that the server is well, and has kept nothing', async () => {
    assert.deepEqual(await inventory(root), before)
    assert.equal((await root.wuying('CreateDesktops', launch)).status, 200)
    await idle(place.server)
    const status = readFileSync(`/proc/${place.server.process?.pid}/status`, 'utf8')
    const rssMib = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024
    t.diagnostic(`resident: ${rssMib.toFixed(0)} MiB`)
    assert.ok(rssMib > 10 && rssMib < RSS_MIB_MAX, `${rssMib} MiB`)
  })
})

import assert from 'node:assert/strict'
import { afterEach, beforeEach, test } from 'node:test'
import { type NativeServer, startNative } from './fixture-server.ts'
import { makePlace, PART, sendPart, TUS, tokenOf } from './fixture-tus.ts'

let server: NativeServer

beforeEach(async () => {
  server = await startNative()
})
afterEach(async () => {
  await server.gateway.close()
  assert.deepEqual(server.bugs, [])
})

test('a token is the right, an id is none, and neither is in the log', async () => {
  const path = await makePlace(server, 10)
  const made = server.fake.transfers.uploads.get(tokenOf(path))?.upload
  const id = made?.id ?? ''
  const foreign = [
    `/v1/uploads/${'A'.repeat(43)}`,
    `/v1/uploads/${tokenOf(path)}x`,
    `/v1/uploads/${tokenOf(path).slice(0, -1)}`,
    `/v1/uploads/${encodeURIComponent(`../uploads/${tokenOf(path)}`)}`,
    '/v1/uploads/short',
    `/v1/uploads/${'t'.repeat(500)}`,
    '/v1/uploads/%00',
  ]
  for (const target of foreign) {
    for (const method of ['HEAD', 'PATCH', 'DELETE']) {
      const said = await server.ask(method, target, { ...PART, 'upload-offset': '0' })
      assert.equal(said.status, 404, `${method} ${target}`)
      assert.equal(said.headers['upload-offset'], undefined)
    }
  }
  // The id names it to its owner alone; around the token there is no second way.
  for (const [method, target] of [
    ['GET', `/v1/uploads/${id}`],
    ['DELETE', `/v1/uploads/${id}`],
    ['PATCH', `/v1/uploads/${id}`],
    ['HEAD', `/v1/uploads/${id}`],
    ['GET', '/v1/uploads'],
    ['PATCH', `/v1/%75ploads/${tokenOf(path)}`],
    ['PATCH', `/v1//uploads/${tokenOf(path)}`],
    ['PATCH', `${path}/`],
    ['PATCH', `${path}/x`],
  ] as const)
    assert.equal((await server.ask(method, target, { ...PART, 'upload-offset': '0' })).status, 403, target)
  assert.equal((await server.ask('GET', path, TUS)).status, 405)
  assert.equal((await server.ask('POST', path, TUS)).status, 405)
  assert.equal((await server.ask('PUT', path, { ...TUS, 'x-http-method-override': 'PATCH' })).status, 405)
  assert.equal((await server.ask('POST', path, { ...TUS, 'x-http-method-override': 'HEAD' })).status, 200)
  assert.equal((await server.ask('HEAD', path, TUS)).status, 200)
  assert.equal((await server.ask('HEAD', `http://elsewhere.example${path}`, TUS)).status, 200)
  const gone = await server.ask('DELETE', path, TUS)
  assert.deepEqual([gone.status, gone.headers['tus-resumable']], [204, '1.0.0'])
  assert.equal((await server.ask('HEAD', path, TUS)).status, 404)

  const log = JSON.stringify(server.records)
  assert.ok(server.records.length > 25)
  assert.doesNotMatch(log, new RegExp(tokenOf(path)))
  assert.doesNotMatch(log, /AAAAAAAA|tttttttt/)
})

test('uploads are listed, shown and given up by their owner', async () => {
  const path = await makePlace(server, 10)
  const id = server.fake.transfers.uploads.get(tokenOf(path))?.upload.id
  const list = await server.askSigned('GET', '/v1/uploads?region=hk')
  assert.equal(list.json().total, 1)
  const shown = (await server.askSigned('GET', `/v1/uploads/${id}`)).json()
  assert.deepEqual([shown.uploadId, shown.state, shown.imageId, shown.reason], [id, 'receiving', null, null])
  assert.doesNotMatch(JSON.stringify([list.json(), shown]), new RegExp(tokenOf(path)))
  await sendPart(server, path, 0, 'x'.repeat(10))
  const received = (await server.askSigned('GET', `/v1/uploads/${id}`)).json()
  assert.deepEqual([received.state, received.offsetBytes], ['received', 10])
  assert.match(received.imageId, /^img-/)
  assert.deepEqual((await server.askSigned('DELETE', `/v1/uploads/${id}`)).json(), { uploadId: id })
  assert.equal((await server.askSigned('GET', `/v1/uploads/${id}`)).status, 404)
})

import { readFileSync } from 'node:fs'
import { startPeerEndpoint } from '../../src/tasks/threads/peer-endpoint.ts'
import { type PeerFile, PROJECT, READER } from './copy-peer.ts'
import { placeIn, SOURCE } from './places.ts'

// The store in a folder as the server lets other installations read it, until the standard input ends. Arguments: FOLDER
// PEER-FILE. Says its port when it answers.

const [folder = '', file = ''] = process.argv.slice(2)
const { theirs, reader } = JSON.parse(readFileSync(file, 'utf8')) as PeerFile
const endpoint = await startPeerEndpoint(
  {
    places: [placeIn(folder, SOURCE)],
    listen: { host: '127.0.0.1', port: 0 },
    identity: theirs,
    readers: new Map([[reader, { name: READER, projects: [PROJECT], regions: 'all' }]]),
  },
  {
    image: () => Promise.reject(new Error('a pull asks for contents')),
    mayRead: async () => true,
  },
  (record) => console.error(record),
)
console.log(new URL(endpoint.url).port)
await new Promise((resolve) => process.stdin.on('end', resolve).resume())
await endpoint.close()

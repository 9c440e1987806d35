import { MemoryObjects } from './memory.ts'
import { objectStoreSuite } from './suite.ts'

objectStoreSuite('memory', async () => {
  const objects = new MemoryObjects()
  return { objects, again: async () => objects, dispose: async () => {} }
})

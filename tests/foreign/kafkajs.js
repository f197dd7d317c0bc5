// What the tests ask of kafkajs: `node kafkajs.js WHAT BOOTSTRAP TOPIC [GROUP]`.
// `produce` and `consume` go on until SIGTERM and print the lines of Kafka's VerifiableProducer and
// VerifiableConsumer; the others print one line of JSON.
const { Kafka, CompressionTypes, ConfigResourceTypes, logLevel } = require('kafkajs')

const [what, bootstrap, topic, group] = process.argv.slice(2)
const kafka = new Kafka({ clientId: 'test', brokers: bootstrap.split(','), logLevel: logLevel.ERROR,
  logCreator: () => ({ log }) => console.error(JSON.stringify(log)) })
const say = (found) => console.log(JSON.stringify(found))
const until = async (condition) => { while (!(await condition())) await new Promise((go) => setTimeout(go, 50)) }

async function member (groupId, onRecord) {
  const consumer = kafka.consumer({ groupId, heartbeatInterval: 500, maxWaitTimeInMs: 200, sessionTimeout: 10000 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const joined = { consumer, partitions: [] }
  consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => { joined.partitions = payload.memberAssignment[topic] || [] })
  consumer.on(consumer.events.CRASH, ({ payload }) => { console.error(payload.error); if (!payload.restart) process.exit(1) })
  await consumer.run({ eachMessage: async ({ partition, message }) => onRecord(partition, message) })
  return joined
}

const commands = {
  async administer () {
    const admin = kafka.admin()
    await admin.connect()
    const found = { created: await admin.createTopics({ topics: [{ topic, numPartitions: 2 }] }) }
    found.createdAgain = await admin.createTopics({ topics: [{ topic }] })
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    found.partitions = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
    found.brokers = (await admin.describeCluster()).brokers.map(({ nodeId }) => nodeId)
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '3600000' }] }] })
    const described = await admin.describeConfigs({ resources: [{ ...resource, configNames: ['retention.ms'] }] })
    found.retention = described.resources[0].configEntries[0].configValue
    const producer = kafka.producer()
    await producer.connect()
    await producer.send({ topic, messages: [1, 2, 3, 4].map((n) => ({ partition: 0, value: `${n}` })) })
    await producer.disconnect()
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '3' }] })
    found.records = (await admin.fetchTopicOffsets(topic)).find(({ partition }) => partition === 0)
    await admin.alterPartitionReassignments({ topics: [{ topic, partitionAssignment: [{ partition: 0, replicas: [3, 1, 2] }] }] })
    await until(async () => !(await admin.listPartitionReassignments({ topics: [{ topic, partitions: [0] }] })).topics.length)
    const byNumber = ({ partitionId }) => partitionId === 0
    found.replicas = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.find(byNumber).replicas
    await admin.resetOffsets({ groupId: group, topic, earliest: true })
    found.reset = (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0].partitions.map(({ offset }) => offset)
    await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '4' }] })
    const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    found.set = partitions.find(({ partition }) => partition === 0).offset
    found.state = (await admin.describeGroups([group])).groups[0].state
    found.listed = (await admin.listGroups()).groups.some(({ groupId }) => groupId === group)
    await admin.deleteGroups([group])
    await admin.deleteTopics({ topics: [topic] })
    found.left = (await admin.listTopics()).includes(topic)
    await admin.disconnect()
    say(found)
  },

  async roundtrip () {
    const sent = []
    for (const [settings, compression] of [
      [{}, CompressionTypes.None], [{}, CompressionTypes.GZIP],
      [{ idempotent: true, maxInFlightRequests: 1 }, CompressionTypes.None], [{ idempotent: true }, CompressionTypes.GZIP]
    ]) {
      const producer = kafka.producer(settings)
      await producer.connect()
      const messages = [...Array(100).keys()].map((n) => ({ key: `key ${n}`, value: `${sent.length + n}`, headers: { h: 'x' } }))
      await producer.send({ topic, acks: -1, compression, messages })
      await producer.disconnect()
      sent.push(...messages.map(({ value }) => value))
    }
    const read = []
    const { consumer } = await member(group, (_, { key, value, headers }) => {
      if (`${key}` === `key ${value % 100}` && `${headers.h}` === 'x') read.push(`${value}`)
    })
    await until(() => read.length >= sent.length)
    await consumer.disconnect()
    say({ sent: sent.length, read: read.length, distinct: new Set(read).size })
  },

  async rebalance () {
    const read = []
    const seen = (_, { value }) => read.push(`${value}`)
    const first = await member(group, seen)
    await until(() => first.partitions.length === 2)
    const second = await member(group, seen)
    await until(() => first.partitions.length === 1 && second.partitions.length === 1)
    const producer = kafka.producer()
    await producer.connect()
    const send = async (from) => producer.send({ topic, messages: [...Array(100).keys()].map((n) => ({ value: `${from + n}`, partition: n % 2 })) })
    await send(0)
    await until(() => read.length >= 100)
    await second.consumer.disconnect()
    await until(() => first.partitions.length === 2)
    await send(100)
    await until(() => read.length >= 200)
    await first.consumer.disconnect()
    await producer.disconnect()
    say({ read: read.length, distinct: new Set(read).size })
  },

  async produce () {
    const producer = kafka.producer({ idempotent: true })
    await producer.connect()
    process.once('SIGTERM', () => process.exit(0))
    for (let n = 0; ; n += 10) {
      const values = [...Array(10).keys()].map((i) => `${n + i}`)
      const partition = (n / 10) % 3
      const [{ baseOffset }] = await producer.send({ topic, acks: -1, messages: values.map((value) => ({ value, partition })) })
      values.forEach((value, i) => say({ name: 'producer_send_success', value, partition, offset: Number(baseOffset) + i }))
      await new Promise((go) => setTimeout(go, 30))
    }
  },

  async consume () {
    const { consumer } = await member(group, (partition, { value, offset }) =>
      say({ name: 'record_data', value: `${value}`, partition, offset }))
    process.once('SIGTERM', () => consumer.disconnect().then(() => process.exit(0)))
  }
}

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
commands[what]().catch((error) => { console.error(error); process.exit(1) })

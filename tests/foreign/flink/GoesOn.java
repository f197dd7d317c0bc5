// Flink goes on where an app of raftlog.streams was: BOOTSTRAP APP TOPIC CHANGELOG, and where else it is to
// start, PARTITION=OFFSET,…; without that, where the app's group has committed.
//
// It counts the records of a topic by their keys, from there on, adds what the app had counted, which is the
// last value of each key in its changelog, and prints that as a line of JSON, with the offsets that were read.

import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.java.tuple.Tuple4;
import org.apache.flink.connector.kafka.source.KafkaSource;
import org.apache.flink.connector.kafka.source.enumerator.initializer.OffsetsInitializer;
import org.apache.flink.connector.kafka.source.reader.deserializer.KafkaRecordDeserializationSchema;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.util.Collector;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.OffsetResetStrategy;
import org.apache.kafka.common.TopicPartition;

public class GoesOn {
    public static void main(String[] said) throws Exception {
        String bootstrap = said[0], app = said[1], topic = said[2], changelog = said[3];
        OffsetsInitializer start = OffsetsInitializer.committedOffsets(OffsetResetStrategy.EARLIEST);
        if (said.length > 4) {
            Map<TopicPartition, Long> offsets = new HashMap<>();
            for (String place : said[4].split(",")) {
                String[] parts = place.split("=");
                offsets.put(new TopicPartition(topic, Integer.parseInt(parts[0])), Long.parseLong(parts[1]));
            }
            start = OffsetsInitializer.offsets(offsets);
        }
        Map<String, Long> counts = new TreeMap<>();
        Map<String, long[]> latest = new HashMap<>();
        try (var changes = read(bootstrap, app, changelog, OffsetsInitializer.earliest())) {
            while (changes.hasNext()) {
                var change = changes.next();
                long[] before = latest.get(change.f2);
                if (before == null || before[0] < change.f1) {
                    latest.put(change.f2, new long[] {change.f1, Long.parseLong(change.f3)});
                }
            }
        }
        latest.forEach((key, found) -> counts.put(key, found[1]));
        Map<Integer, TreeMap<Long, Integer>> seen = new TreeMap<>();
        try (var records = read(bootstrap, app, topic, start)) {
            while (records.hasNext()) {
                var record = records.next();
                counts.merge(record.f2, 1L, Long::sum);
                seen.computeIfAbsent(record.f0, partition -> new TreeMap<>()).merge(record.f1, 1, Integer::sum);
            }
        }
        System.out.println(
                "{\"counts\": {" + counts.entrySet().stream()
                        .map(each -> "\"" + each.getKey() + "\": " + each.getValue())
                        .collect(Collectors.joining(", "))
                + "}, \"read\": {" + seen.entrySet().stream()
                        .map(each -> String.format(
                                "\"%d\": [%d, %d, %d, %d]",
                                each.getKey(), each.getValue().firstKey(), each.getValue().lastKey(),
                                each.getValue().size(),
                                each.getValue().values().stream().mapToInt(Integer::intValue).sum()))
                        .collect(Collectors.joining(", "))
                + "}}");
    }

    // What a topic has from there up to its present end: partition, offset, key, value.
    static org.apache.flink.util.CloseableIterator<Tuple4<Integer, Long, String, String>> read(
            String bootstrap, String group, String topic, OffsetsInitializer start) throws Exception {
        var source = KafkaSource.<Tuple4<Integer, Long, String, String>>builder()
                .setBootstrapServers(bootstrap).setGroupId(group).setTopics(topic)
                .setProperty("isolation.level", "read_committed")
                .setStartingOffsets(start).setBounded(OffsetsInitializer.latest())
                .setDeserializer(new Plain()).build();
        var environment = StreamExecutionEnvironment.getExecutionEnvironment();
        environment.setParallelism(2);
        return environment.fromSource(source, WatermarkStrategy.noWatermarks(), topic).executeAndCollect();
    }

    static class Plain implements KafkaRecordDeserializationSchema<Tuple4<Integer, Long, String, String>> {
        @Override
        public void deserialize(
                ConsumerRecord<byte[], byte[]> record, Collector<Tuple4<Integer, Long, String, String>> out) {
            out.collect(Tuple4.of(record.partition(), record.offset(), text(record.key()), text(record.value())));
        }

        static String text(byte[] data) {
            return new String(data, StandardCharsets.UTF_8);
        }

        @Override
        public TypeInformation<Tuple4<Integer, Long, String, String>> getProducedType() {
            return Types.TUPLE(Types.INT, Types.LONG, Types.STRING, Types.STRING);
        }
    }
}

// The loads as an application of Kafka Streams: LOAD BOOTSTRAP APP INPUT OUTPUT STATE [SETTING=VALUE …]

import java.time.Duration;
import java.util.Arrays;
import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.EmitStrategy;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.kstream.TimeWindows;
import org.apache.kafka.streams.kstream.WindowedSerdes;

public class WorkerKafkaStreams {
    public static void main(String[] said) {
        String load = said[0], source = said[3], target = said[4];
        var builder = new StreamsBuilder();
        var text = Serdes.String();
        var bytes = Serdes.ByteArray();
        switch (load) {
            case "count" -> builder.stream(source, Consumed.with(text, bytes))
                    .groupByKey()
                    .count(Materialized.as("counts"))
                    .toStream()
                    .to(target, Produced.with(text, Serdes.Long()));
            case "windows" -> builder.stream(source, Consumed.with(text, bytes))
                    .groupByKey()
                    .windowedBy(TimeWindows.ofSizeWithNoGrace(Duration.ofSeconds(10)))
                    .emitStrategy(EmitStrategy.onWindowClose())
                    .count(Materialized.as("counts"))
                    .toStream()
                    .to(target, Produced.with(
                            new WindowedSerdes.TimeWindowedSerde<>(text, 10_000L), Serdes.Long()));
            case "words" -> builder.stream(source, Consumed.with(text, text))
                    .flatMapValues(line -> Arrays.asList(line.split(" ")))
                    .groupBy((key, word) -> word, Grouped.with("words", text, text))
                    .count(Materialized.as("counts"))
                    .toStream()
                    .to(target, Produced.with(text, Serdes.Long()));
            default -> throw new IllegalArgumentException(load);
        }
        var settings = new Properties();
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, said[1]);
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, said[2]);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, said[5]);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, -1);
        settings.put("auto.offset.reset", "earliest");
        for (int i = 6; i < said.length; i++) {
            var both = said[i].split("=", 2);
            settings.put(both[0], both[1]);
        }
        var streams = new KafkaStreams(builder.build(), settings);
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }
}

// A Kafka Streams application with a store: how often each word came, each input counted exactly once.

import java.util.Properties;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Grouped;
import org.apache.kafka.streams.kstream.Produced;

public class WordCount {
    public static void main(String[] said) {
        String bootstrap = said[0], application = said[1], input = said[2], output = said[3], state = said[4];
        var builder = new StreamsBuilder();
        var words = Serdes.String();
        // Grouped by another key than that of the input, so that there is a topic in between, too.
        builder.stream(input, Consumed.with(words, words))
                .groupBy((key, word) -> word, Grouped.with(words, words))
                .count()
                .toStream()
                .mapValues(String::valueOf)
                .to(output, Produced.with(words, words));
        var settings = new Properties();
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        settings.put(StreamsConfig.STATE_DIR_CONFIG, state);
        settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 3);
        settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 2);
        settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 100);
        settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 0);
        settings.put("auto.offset.reset", "earliest");
        var streams = new KafkaStreams(builder.build(), settings);
        streams.setStateListener((now, before) -> say("state", now));
        streams.setUncaughtExceptionHandler(error -> {
            say("error", error.getClass().getSimpleName());
            return StreamThreadExceptionResponse.REPLACE_THREAD;
        });
        Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
        streams.start();
    }

    static synchronized void say(String what, Object is) {
        System.out.println(String.format("{\"%s\": \"%s\"}", what, is));
        System.out.flush();
    }
}

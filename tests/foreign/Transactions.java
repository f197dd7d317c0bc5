// What Kafka's Java client does in transactions. Each thing that it did is a line of JSON.

import java.time.Duration;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

public class Transactions {
    public static void main(String[] said) throws Exception {
        switch (said[0]) {
            case "write" -> write(said[1], said[2], said[3], Integer.parseInt(said[4]));
            case "time-out" -> timeOut(said[1], said[2], said[3]);
            case "transform" -> transform(said[1], said[2], said[3], said[4], said[5]);
            default -> throw new IllegalArgumentException(said[0]);
        }
    }

    // Transactions one after the other, each a record; every third is aborted.
    static void write(String bootstrap, String topic, String id, int count) {
        try (var producer = producer(bootstrap, id, 60_000)) {
            long begun = System.nanoTime();
            producer.initTransactions();
            say("{\"did\": \"init\", \"ms\": %d}", (System.nanoTime() - begun) / 1_000_000);
            for (int number = 0; number < count; number++) {
                producer.beginTransaction();
                producer.send(new ProducerRecord<>(topic, "k", String.valueOf(number)));
                if (number % 3 == 2) {
                    producer.flush();
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
        }
        say("{\"did\": \"all\"}");
    }

    // A transaction that is open for too long, its abort, and the next one with the same producer.
    static void timeOut(String bootstrap, String topic, String id) throws Exception {
        try (var producer = producer(bootstrap, id, 2_000)) {
            producer.initTransactions();
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "k", "late")).get();
            say("{\"did\": \"wait\"}");
            Thread.sleep(6_000);
            try {
                producer.send(new ProducerRecord<>(topic, "k", "later")).get();
                producer.commitTransaction();
                say("{\"did\": \"commit\"}");
            } catch (Exception refused) {
                say("{\"did\": \"refused\", \"by\": \"%s\"}", cause(refused));
                producer.abortTransaction();
            }
            producer.beginTransaction();
            producer.send(new ProducerRecord<>(topic, "k", "next"));
            producer.commitTransaction();
        }
        say("{\"did\": \"all\"}");
    }

    // Each input becomes one output, in transactions that have the group's offsets. Until it is killed.
    static void transform(String bootstrap, String input, String output, String group, String id) {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("group.id", group);
        settings.put("isolation.level", "read_committed");
        settings.put("enable.auto.commit", "false");
        settings.put("auto.offset.reset", "earliest");
        settings.put("session.timeout.ms", "6000");
        settings.put("max.poll.records", "20");
        while (true) {
            try (var consumer = new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
                    var producer = producer(bootstrap, id, 20_000)) {
                producer.initTransactions();
                consumer.subscribe(List.of(input));
                while (true) {
                    ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(200));
                    if (records.isEmpty()) {
                        continue;
                    }
                    producer.beginTransaction();
                    Map<TopicPartition, OffsetAndMetadata> offsets = new HashMap<>();
                    for (ConsumerRecord<String, String> one : records) {
                        producer.send(new ProducerRecord<>(output, one.key(), one.value()));
                        var at = new TopicPartition(one.topic(), one.partition());
                        offsets.put(at, new OffsetAndMetadata(one.offset() + 1));
                    }
                    producer.sendOffsetsToTransaction(offsets, consumer.groupMetadata());
                    producer.commitTransaction();
                    say("{\"did\": \"batch\", \"records\": %d}", records.count());
                }
            } catch (KafkaException error) {
                say("{\"did\": \"again\", \"after\": \"%s\"}", cause(error));
            }
        }
    }

    static KafkaProducer<String, String> producer(String bootstrap, String id, int timeout) {
        var settings = new Properties();
        settings.put("bootstrap.servers", bootstrap);
        settings.put("transactional.id", id);
        settings.put("transaction.timeout.ms", timeout);
        settings.put("linger.ms", "0");
        return new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer());
    }

    static String cause(Throwable error) {
        return (error.getCause() == null ? error : error.getCause()).getClass().getSimpleName();
    }

    static synchronized void say(String format, Object... values) {
        System.out.println(String.format(format, values));
        System.out.flush();
    }
}

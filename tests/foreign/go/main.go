// What Go's Kafka clients, franz-go and sarama, do in transactions. Each thing that one did is a line of JSON.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/IBM/sarama"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	client, bootstrap, topic, id := os.Args[1], strings.Split(os.Args[2], ","), os.Args[3], os.Args[4]
	count, err := strconv.Atoi(os.Args[5])
	must(err)
	switch client {
	case "franz-go":
		franz(bootstrap, topic, id, count)
	case "sarama":
		saramas(bootstrap, topic, id, count)
	default:
		log.Fatal(client)
	}
	fmt.Println(`{"did": "all"}`)
}

// Transactions one after the other, each a record; every third is aborted.
func franz(bootstrap []string, topic, id string, count int) {
	ctx := context.Background()
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap...), kgo.TransactionalID(id), kgo.DefaultProduceTopic(topic))
	must(err)
	defer client.Close()
	begun := time.Now()
	_, _, err = client.ProducerID(ctx)
	must(err)
	initialized(begun)
	for number := range count {
		must(client.BeginTransaction())
		client.Produce(ctx, kgo.StringRecord(strconv.Itoa(number)), func(_ *kgo.Record, err error) { must(err) })
		must(client.Flush(ctx))
		must(client.EndTransaction(ctx, kgo.TransactionEndTry(number%3 != 2)))
	}
}

func saramas(bootstrap []string, topic, id string, count int) {
	settings := sarama.NewConfig()
	settings.Version = sarama.V3_6_0_0
	settings.Producer.Idempotent = true
	settings.Producer.RequiredAcks = sarama.WaitForAll
	settings.Producer.Return.Successes = true
	settings.Producer.Transaction.ID = id
	settings.Net.MaxOpenRequests = 1
	begun := time.Now()
	producer, err := sarama.NewSyncProducer(bootstrap, settings)
	must(err)
	defer func() { must(producer.Close()) }()
	initialized(begun)
	for number := range count {
		must(producer.BeginTxn())
		value := sarama.StringEncoder(strconv.Itoa(number))
		_, _, err := producer.SendMessage(&sarama.ProducerMessage{Topic: topic, Value: value})
		must(err)
		if number%3 == 2 {
			must(producer.AbortTxn())
		} else {
			must(producer.CommitTxn())
		}
	}
}

func initialized(begun time.Time) {
	fmt.Printf("{\"did\": \"init\", \"ms\": %d}\n", time.Since(begun).Milliseconds())
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

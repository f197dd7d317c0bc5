"""Spark goes on where an app of raftlog.streams was: BOOTSTRAP TOPIC STARTING_OFFSETS CHANGELOG FOLDER.

Counts the records of a topic by their keys from the offsets on, adds what the app had counted, which its
changelog says, and prints that as a line of JSON, with which offsets were read.
"""

import json
import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as f


def main():
    bootstrap, topic, offsets, changelog, folder = sys.argv[1:]
    spark = SparkSession.builder.getOrCreate()
    kafka = {"kafka.bootstrap.servers": bootstrap, "kafka.isolation.level": "read_committed"}
    stream = (
        spark.readStream.format("kafka").options(**kafka)
        .option("subscribe", topic).option("startingOffsets", offsets)
    )  # fmt: skip
    query = (
        stream.load().select("partition", "offset", f.col("key").cast("string"))
        .writeStream.format("memory").queryName("went_on").option("checkpointLocation", folder)
        .trigger(availableNow=True).start()
    )  # fmt: skip
    query.awaitTermination()
    went_on = spark.table("went_on")
    changes = spark.read.format("kafka").options(**kafka).option("subscribe", changelog).load()
    counted = changes.groupBy(f.col("key").cast("string")).agg(
        f.max_by(f.col("value").cast("string"), f.col("offset")).cast("long").alias("count")
    )
    both = counted.unionByName(went_on.groupBy("key").count()).groupBy("key").agg(f.sum("count"))
    read = went_on.groupBy("partition").agg(
        f.min("offset"), f.max("offset"), f.countDistinct("offset"), f.count("*")
    )
    print(
        json.dumps(
            {"counts": dict(map(tuple, both.collect())), "read": {row[0]: row[1:] for row in read.collect()}}
        )
    )
    spark.stop()


main()

# A broker of raftlog, or `raftlog registry`. `docker build -t raftlog .`; docker-compose.yml starts three brokers.
ARG BASE=python:3.11-slim-bookworm

FROM $BASE AS build
# For networks with a mirror of PyPI, or with a certificate authority of their own.
ARG PIP_INDEX_URL
ARG PIP_CERT
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
# What raftlog needs first, so that a change of raftlog alone is built in seconds.
RUN python3 -m venv /opt/raftlog && python3 -c "import tomllib; p = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
    extras = p['optional-dependencies']; print(*p['dependencies'], *extras['security'], *extras['registry'], sep='\n')" > needs.txt \
    && /opt/raftlog/bin/pip install --no-cache-dir --quiet --requirement needs.txt
COPY raftlog raftlog
RUN /opt/raftlog/bin/pip install --no-cache-dir --quiet --no-deps . \
    && /opt/raftlog/bin/pip uninstall --quiet --yes pip setuptools

FROM $BASE
LABEL org.opencontainers.image.title=raftlog org.opencontainers.image.licenses=Apache-2.0
# Folders that volumes are put on belong to the user, so that a fresh volume does. The second is where compose
# files made for Kafka's images put theirs.
RUN groupadd --gid 1000 raftlog && useradd --uid 1000 --gid raftlog --no-create-home raftlog \
    && install -d -o raftlog -g raftlog /var/lib/raftlog/data /var/lib/kafka/data /tmp/kraft-combined-logs
COPY --from=build /opt/raftlog /opt/raftlog
COPY docker/ready.py docker/image.properties /opt/raftlog/
ENV PATH=/opt/raftlog/bin:$PATH RAFTLOG_ENV_COMPAT=kafka
USER raftlog
VOLUME /var/lib/raftlog/data
EXPOSE 9092 9192 9644
# A broker that gets it hands its leaderships over, which takes up to two seconds, and syncs.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["python3", "-I", "-S", "/opt/raftlog/ready.py"]
ENTRYPOINT ["raftlog"]
CMD ["serve", "--config", "/opt/raftlog/image.properties"]

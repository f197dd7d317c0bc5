"""The examples, without a broker and with one."""

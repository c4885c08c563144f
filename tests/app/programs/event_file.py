"""Reads TensorBoard's event files from the description of their format, sharing nothing with the writer."""

import struct


def crc32c(data):
    """Bit by bit, as RFC 3720 defines it."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def check(data, stored):
    crc = crc32c(data)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    assert masked == stored, f"checksum {stored:08x}, expected {masked:08x}"


def records(content):
    """The data of every TFRecord, checksums checked."""
    at = 0
    while at < len(content):
        length, length_crc = struct.unpack_from("<QI", content, at)
        check(content[at:at + 8], length_crc)
        data = content[at + 12:at + 12 + length]
        assert len(data) == length, "cut off"
        check(data, *struct.unpack_from("<I", content, at + 12 + length))
        yield data
        at += 16 + length


def varint(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at


def fields(data):
    """(field number, value) of a protobuf message; what is length-delimited as bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind == 2:
            length, at = varint(data, at)
            value, at = data[at:at + length], at + length
            assert len(value) == length, "cut off"
        else:
            form, size = {1: ("<d", 8), 5: ("<f", 4)}[kind]
            (value,), at = struct.unpack_from(form, data, at), at + size
        yield key >> 3, value


def hparams_value(data):
    """What a google.protobuf.Value holds."""
    ((field, value),) = fields(data)
    return {2: lambda: value, 3: lambda: value.decode(), 4: lambda: bool(value)}[field]()


def hparams(tag, metadata):
    """The message of HParamsPluginData (tensorboard/plugins/hparams/plugin_data.proto) in a value's metadata."""
    metadata = dict(fields(metadata))
    assert metadata[4] == 2, "data_class is not that of a tensor"
    plugin = dict(fields(metadata[1]))
    assert plugin[1] == b"hparams"
    ((field, content),) = fields(plugin[2])
    if field == 3:
        assert tag == "_hparams_/session_start_info"
        entries = [dict(fields(value)) for number, value in fields(content) if number == 1]
        return {"start": dict(fields(content))[5],
                "settings": {entry[1].decode(): hparams_value(entry[2]) for entry in entries}}
    assert (field, tag) == (4, "_hparams_/session_end_info")
    end = dict(fields(content))
    return {"status": end[1], "end": end[2]}


def events(content):
    """Every event as {"wall_time", "step", "file_version", "scalars": {tag: number}, "hparams", "session_status"},
    those it has."""
    for data in records(content):
        event = {}
        for field, value in fields(data):
            if field == 1:
                event["wall_time"] = value
            elif field == 2:
                event["step"] = value
            elif field == 3:
                event["file_version"] = value.decode()
            elif field == 5:
                pairs = [dict(fields(entry)) for _, entry in fields(value)]
                if 9 in pairs[0]:
                    event["hparams"] = hparams(pairs[0][1].decode(), pairs[0][9])
                    assert pairs[0][8] == bytes([8, 1, 18, 2, 18, 0]), "not a vector of no floats"
                    continue
                event["scalars"] = {pair[1].decode(): pair[2] for pair in pairs}
                assert len(event["scalars"]) == len(pairs), "a tag stands there twice"
            elif field == 7:
                event["session_status"] = dict(fields(value))[1]
            else:
                raise AssertionError(f"field {field}")
        yield event

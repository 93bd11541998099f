# SPDX-License-Identifier: Apache-2.0
vdc_unit_test(proto_test SOURCES unit/proto_msg.c unit/proto_record.c LINK vdc-codec vdc-proto)

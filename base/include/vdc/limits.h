/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounds that more than one directory must agree on. A bound of one module stands in its header.
 * Each says its unit and why this number. Reaching one is a defined answer (VDC_RC_TOO_LARGE or
 * VDC_RC_LIMIT), and a test reaches it.
 */
#ifndef VDC_LIMITS_H
#define VDC_LIMITS_H

/* Bytes of a name without its NUL: a DNS label, so that every name can be one. */
#define VDC_NAME_MAX 63
#define VDC_NAME_CAP (VDC_NAME_MAX + 1)
/* Bytes of a label's key and value: Kubernetes' limit for values, which operators know. */
#define VDC_LABEL_MAX 63
#define VDC_LABEL_CAP (VDC_LABEL_MAX + 1)
/* Labels of one node or partition: ten times what people use; bounds the cost of an expression. */
#define VDC_LABELS_MAX 32
/* Bytes of an Idempotency-Key: a UUID is 36, tools put prefixes before it. */
#define VDC_REQUEST_KEY_MAX 127
#define VDC_REQUEST_KEY_CAP (VDC_REQUEST_KEY_MAX + 1)
/* Virtual CPUs of one partition: QEMU's q35 limit without special options is 288. */
#define VDC_VCPUS_MAX 256
/* NUMA nodes of one host: Linux' default NODES_SHIFT on servers gives 64. */
#define VDC_NUMA_NODES_MAX 64
/* Memory of one partition, bytes: 16 TiB, the largest hosts sold. */
#define VDC_PARTITION_MEMORY_MAX (UINT64_C(16) << 40)
/* Epochs, incarnations, generations and sequences go up by one at a time and never come near this;
 * a peer that claims more lies. Far enough below 2^63 for what is counted on from a claim. */
#define VDC_COUNTER_MAX (UINT64_C(1) << 62)
/* Bytes of a policy file: 50,000 tenants fit (measured), a mistake does not. */
#define VDC_POLICY_TEXT_MAX (UINT32_C(1) << 20)
/* Bytes of one frame on a link: a snapshot is sent in pieces, so nothing needs more. */
#define VDC_FRAME_MAX (UINT32_C(4) << 20)
/* Bytes of one REST body: the largest policy file as a JSON string, escaped. */
#define VDC_HTTP_BODY_MAX (UINT32_C(4) << 20)

/* "[ffff:...:ffff]:65535" or a DNS name (253 bytes) with its port, and the NUL. */
#define VDC_ADDRESS_CAP 272

#endif

"""A C function that hands a descriptor on, for programs in containers."""

from __future__ import annotations

SEND_DESCRIPTOR = r"""
#define _GNU_SOURCE
#include <string.h>
#include <sys/socket.h>
static int send_descriptor(int peer, int sent) {
    char text = 'x', control[CMSG_SPACE(sizeof sent)] = {0};
    struct iovec part = {&text, 1};
    struct msghdr message = {0, 0, &part, 1, control, sizeof control, 0};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(sizeof sent);
    memcpy(CMSG_DATA(head), &sent, sizeof sent);
    return sendmsg(peer, &message, 0) < 0;
}
"""
"""`send_descriptor(peer, sent)` sends a descriptor by a connected socket (SCM_RIGHTS, unix(7)); 0 if it could."""

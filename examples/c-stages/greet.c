/* Answers every request with one page: greet PORT. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    static const char page[] = "HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nhello!\n";
    char request[4096];
    int on = 1, sock = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in here = {.sin_family = AF_INET};

    here.sin_port = htons(argc > 1 ? atoi(argv[1]) : 7000);
    setsockopt(sock, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(sock, (struct sockaddr *)&here, sizeof here) || listen(sock, 64)) {
        perror("greet");
        return 1;
    }
    for (;;) {
        int client = accept(sock, NULL, NULL);

        if (client < 0)
            continue;
        if (read(client, request, sizeof request) > 0 &&
            write(client, page, strlen(page)) < 0)
            perror("greet");
        close(client);
    }
}

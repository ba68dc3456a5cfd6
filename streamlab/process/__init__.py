"""The processes of servers: started, limited, measured, ended."""
